//! `sweep --status`: which runs of a sweep are done, running, failed, unfinished or not begun, judged by their folders
//! alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use indicatif::FormattedDuration;
use serde::Serialize;

use super::counted::counted;
use super::figures;
use super::plan::{Plan, SweepSource};
use super::submission::Submission;
use crate::record::{CLEAN, Images, RunScores, SCHEMA, TrainingProgress, json_text};
use crate::report::aligned;
use crate::run::RunState;

/// The state of a sweep.
#[derive(Serialize)]
struct Status {
    schema: u32,
    name: String,
    /// Where the run folders are.
    out: PathBuf,
    /// The jobs of its last submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    slurm: Option<Submission>,
    twins: Vec<Row>,
    runs: Vec<Row>,
}

/// A run or a clean twin.
#[derive(Serialize)]
struct Row {
    name: String,
    state: RunState,
    /// Models whose training is in progress or was cut off.
    trainings: Vec<Training>,
    /// Accuracy of the clean twin on clean images, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    clean_acc: Option<f64>,
    /// Net ASR in points.
    #[serde(skip_serializing_if = "Option::is_none")]
    net_asr: Option<f64>,
}

#[derive(Serialize)]
struct Training {
    model: String,
    step: usize,
    steps: usize,
    /// Estimated from the rate so far, if the training is in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<f64>,
}

/// Prints the state of the sweep `source`, as JSON if `json` is set. Nothing is written.
///
/// # Errors
/// A [`ConfigError`](crate::ConfigError) if the file or the config of a run is wrong.
pub fn sweep_status(source: &SweepSource, json: bool) -> Result<()> {
    let plan = Plan::read(source)?;
    let status = Status::of(plan);
    if json {
        print!("{}", json_text(&status)?);
    } else {
        status.print();
    }
    Ok(())
}

impl Status {
    fn of(plan: Plan) -> Self {
        let twins = plan.twins().into_iter().map(|twin| {
            let folder = plan.out.join(twin);
            Row::new(twin, &folder, RunState::of_twin(&folder), None)
        });
        let runs = plan.runs.iter().map(|run| {
            let folder = plan.out.join(&run.name);
            let scores = figures::find(&plan, run);
            Row::new(&run.name, &folder, RunState::of(&folder, scores.is_some()), scores.as_ref())
        });
        let (twins, runs) = (twins.collect(), runs.collect());
        let slurm = Submission::read(&plan.out);
        Self { schema: SCHEMA, name: plan.name, out: plan.out, slurm, twins, runs }
    }

    fn print(&self) {
        println!("Sweep {}: {}.", self.name, summary(&self.runs, "run"));
        println!("{}.", summary(&self.twins, "clean twin"));
        println!("Run folders: {}", self.out.display());
        if let Some(slurm) = &self.slurm {
            println!("Submitted to Slurm as jobs {}", slurm.ids(", "));
        }
        let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
        let cells = self.twins.iter().chain(&self.runs).map(|row| {
            let (acc, net) = (number(row.clean_acc), number(row.net_asr));
            [row.name.clone(), row.state.to_string(), row.trainings(), acc, net]
        });
        let head = ["run", "state", "training", "clean Acc %", "net ASR"];
        print!("\n{}", aligned(head, &cells.collect::<Vec<_>>()));
    }
}

impl Row {
    fn new(name: &str, folder: &Path, state: RunState, scores: Option<&RunScores>) -> Self {
        let training = |(model, progress): (String, TrainingProgress)| Training {
            model,
            step: progress.done,
            steps: progress.steps,
            seconds_left: progress.seconds_left().filter(|_| state == RunState::Running),
        };
        Self {
            name: name.to_owned(),
            state,
            trainings: state.trainings(folder).into_iter().map(training).collect(),
            clean_acc: scores.and_then(|s| s.get(CLEAN, Images::Clean)).map(|s| s.acc),
            net_asr: scores.and_then(|scores| scores.net_asr),
        }
    }

    /// The progress of its trainings, in words.
    fn trainings(&self) -> String {
        let words = |Training { model, step, steps, seconds_left }: &Training| {
            let left = seconds_left.and_then(|left| Duration::try_from_secs_f64(left).ok());
            let left = left.map(|left| format!(", {} left", FormattedDuration(left)));
            format!("{model}: step {step} of {steps}{}", left.unwrap_or_default())
        };
        let all: Vec<String> = self.trainings.iter().map(words).collect();
        if all.is_empty() { "-".into() } else { all.join("; ") }
    }
}

/// `4 runs: 1 done, 3 not begun`
fn summary(rows: &[Row], noun: &str) -> String {
    let counts = RunState::ALL.iter().filter_map(|state| {
        let count = rows.iter().filter(|row| row.state == *state).count();
        (count > 0).then(|| format!("{count} {state}"))
    });
    format!("{}: {}", counted(rows.len(), noun), counts.collect::<Vec<_>>().join(", "))
}
