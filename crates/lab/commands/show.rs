//! The command `show`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::probe::EXTERNAL_SCORES;
use super::run_folders::{RUNS, RunRow, absent};
use super::shared::{path, print_scores};
use crate::ConfigError;
use crate::record::{Artefact, Manifest, RunScores, SCHEMA, TrainingProgress, json_text, relative};
use crate::run::RunState;
use crate::shell::path_word;

/// Print the summary of a run. Nothing is trained, opened or written.
///
/// For a run that is not done, prints its finished stages, the progress of its trainings, and why it failed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor show quickstart\n  ssl-backdoor show runs/quickstart --json"
)]
pub struct ShowArgs {
    /// The run folder, or its name under runs/.
    #[arg(value_parser = path())]
    run: PathBuf,
    /// Print JSON, with all scores.
    #[arg(long)]
    json: bool,
}

impl ShowArgs {
    /// Prints the summary.
    ///
    /// # Errors
    /// The run does not exist, or its scores cannot be read.
    pub fn run(self) -> Result<()> {
        let under = Path::new(RUNS).join(&self.run);
        // A folder of that name here may hold something else, such as the images of the run.
        let (folder, row) = match RunRow::read(&self.run) {
            None if under.is_dir() => {
                let row = RunRow::read(&under);
                (under, row)
            }
            row => (self.run, row),
        };
        let Some(row) = row else {
            return Err(no_run(folder).into());
        };
        let scores = folder.join(Artefact::Scores.to_string());
        let scores = scores.is_file().then(|| RunScores::read(&scores)).transpose()?;
        // A run that stopped early has no manifest.
        let manifest = Manifest::read(&folder.join(Artefact::Manifest.to_string())).ok();
        let twin = manifest.as_ref().and_then(|manifest| manifest.twin.clone());
        let stages = manifest.map(|manifest| manifest.stages).unwrap_or_default();
        let trainings = row.state.trainings(&folder);
        if self.json {
            let seconds = stages.iter().map(|(stage, done)| (stage.to_string(), done.seconds));
            let trainings = trainings.iter().map(|(model, progress)| {
                json!({ "model": model, "step": progress.done, "steps": progress.steps })
            });
            let all = json!({
                "schema": SCHEMA,
                "run": row,
                "stages": seconds.map(|(stage, s)| json!({ "stage": stage, "seconds": s })).collect::<Vec<_>>(),
                "trainings": trainings.collect::<Vec<_>>(),
                "scores": scores,
            });
            print!("{}", json_text(&all)?);
            return Ok(());
        }
        print_head(&row);
        if let Some(error) = &row.error {
            println!("Failed: {error}");
        }
        if let Some(scores) = scores {
            println!();
            print_scores(&scores, &folder);
            return Ok(());
        }
        let done: Vec<String> = stages.keys().map(ToString::to_string).collect();
        let done = if done.is_empty() { "none".into() } else { done.join(", ") };
        println!("Stages that are done: {done}");
        for (model, TrainingProgress { done, steps, .. }) in trainings {
            println!("Training of {model}: step {done} of {steps}");
        }
        if matches!(row.state, RunState::Failed | RunState::Unfinished) {
            print_resume(&folder, twin.as_deref());
        }
        Ok(())
    }
}

/// Prints the command that resumes the run in `folder`, whose clean twin is in the folder `twin`, seen from `folder`.
fn print_resume(folder: &Path, twin: Option<&Path>) {
    let config = folder.join(Artefact::Config.to_string());
    if !config.is_file() {
        return;
    }
    let twin = twin.map_or(String::new(), |twin| {
        format!(" --twin {}", path_word(&relative(&folder.join(twin), Path::new("."))))
    });
    println!("Resume: ssl-backdoor run {} --out {}{twin}", path_word(&config), path_word(folder));
}

/// The error for a `folder` that is not that of a run.
fn no_run(folder: PathBuf) -> ConfigError {
    let shown = folder.display();
    if folder.join(EXTERNAL_SCORES).is_file() {
        return ConfigError(format!(
            "{shown} holds the scores of `probe`, not a run: see {shown}/{EXTERNAL_SCORES}"
        ));
    }
    // A bare name refers to a folder in `runs`.
    let bare = folder.components().count() == 1 && Path::new(RUNS).is_dir();
    let looked = if bare { Path::new(RUNS).join(&folder) } else { folder };
    let shown = looked.display();
    match looked.is_dir() {
        true => ConfigError(format!(
            "{shown} holds no run: `ssl-backdoor list {}` lists the runs below it",
            path_word(&looked)
        )),
        false => absent(&looked, "run"),
    }
}

/// Prints two lines that describe the run.
fn print_head(row: &RunRow) {
    println!("{}: {}", row.folder.display(), row.state);
    let target = row.target.as_ref().map_or("no target".into(), |name| format!("target {name}"));
    let known = [row.method.clone(), row.data.clone(), Some(target), row.trigger.clone()];
    let seed = row.seed.map(|seed| format!("seed {seed}"));
    let known: Vec<String> = known.into_iter().chain([seed]).flatten().collect();
    println!("{}", known.join(", "));
}
