//! `sweep --dry-run`: the number of trainings, and their hours, estimated from a short timing of each kind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use ssl_backdoor_data::{EpochPlan, Splits, Subset};
use ssl_backdoor_defend::{Bench, DefendError, Workload, defences};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_ssl::{
    EpochReport, ObserverError, Schedule, StepReport, TrainObserver, Training, pretrain,
};

use super::counted::counted;
use super::left::Left;
use super::makers;
use super::plan::{Plan, Run};
use crate::config::Experiment;
use crate::device;
use crate::record::{SCHEMA, json_text};
use crate::run::interrupted;
use crate::run::progress::{self, TrainingBar};

/// Steps of each of the two epochs of the short timing; the first one is a warm-up.
const STEPS: usize = 8;

/// The plan and its timings, as JSON.
#[derive(Serialize)]
struct Estimate<'a> {
    schema: u32,
    name: &'a str,
    runs: usize,
    /// Number of runs that are left to do; `trainings` covers only these.
    left: usize,
    twins: usize,
    /// Where the run folders are.
    out: &'a Path,
    /// Where figures are kept.
    results: Option<&'a Path>,
    trainings: Vec<TrainingRow>,
    /// Why this program cannot continue the sweep, if it cannot.
    refused: Option<String>,
    /// The runs that could not be timed, and why.
    not_timed: Vec<String>,
    /// Hours of training on all cores; absent if a training could not be timed.
    hours: Option<f64>,
}

/// Prints the work of the plan that is left to do, as JSON if `json` is set.
pub(super) fn print(plan: &Plan, jobs: usize, json: bool) -> Result<()> {
    let left = Left::of(plan);
    let refused = refusal(plan, &left);
    if let Some(refused) = &refused {
        eprintln!("warning: the sweep would stop here: {refused}");
    }
    if !json {
        head(plan, &left);
        if left.runs.is_empty() {
            return Ok(());
        }
    }
    let (mut all, mut not_timed) = (Vec::new(), Vec::new());
    for (run, trainings, defended) in kinds(&left)?.values() {
        match rows(&run.experiment, *trainings, defended) {
            Ok(rows) => {
                rows.iter().filter(|_| !json).for_each(TrainingRow::print);
                all.extend(rows);
            }
            Err(error) => {
                let error = run.experiment.source.locate(error);
                let config = &run.experiment.pretrain;
                let method = config.method.settings().name();
                if !json {
                    println!("| {method} | {trainings} | {} epochs | - | - |", config.train.epochs);
                }
                eprintln!("{}: not timed: {error:#}", run.name);
                not_timed.push(format!("{}: {error:#}", run.name));
            }
        }
    }
    // An empty sum of floats is -0.
    let hours = all.iter().map(TrainingRow::hours).sum::<f64>() + 0.0;
    let hours = not_timed.is_empty().then_some(hours);
    if json {
        let (out, results) = (plan.out.as_path(), plan.results.as_deref());
        let (runs, twins, left) = (plan.runs.len(), plan.twins().len(), left.runs.len());
        let (schema, name, trainings) = (SCHEMA, plan.name.as_str(), all);
        let plan = Estimate {
            schema,
            name,
            runs,
            left,
            twins,
            out,
            results,
            trainings,
            refused,
            not_timed,
            hours,
        };
        print!("{}", json_text(&plan)?);
        return Ok(());
    }
    match hours {
        Some(hours) => println!(
            "\nAbout {hours:.1} hours of training on all cores; features and probes take additional time. \
             With --jobs {jobs} the processes share the cores."
        ),
        None => println!("\nNot every kind could be timed: see above."),
    }
    Ok(())
}

/// Why this program may not do what is left of the plan, if it may not.
fn refusal(plan: &Plan, left: &Left<'_>) -> Option<String> {
    makers::check(plan, &left.runs, &left.done, false).err().map(|error| error.to_string())
}

/// Prints the size of the sweep, where its files go, and the head of the table if something is left.
fn head(plan: &Plan, left: &Left<'_>) {
    let in_words =
        |runs, twins| format!("{}, {}", counted(runs, "run"), counted(twins, "clean twin"));
    println!("Sweep {}: {}.", plan.name, in_words(plan.runs.len(), plan.twins().len()));
    if left.runs.len() < plan.runs.len() {
        println!("Left to do: {}.", in_words(left.runs.len(), left.twins.len()));
    }
    println!("Run folders: {}", plan.out.display());
    if let Some(results) = &plan.results {
        println!("Figures are kept in {}", results.display());
    }
    if left.runs.is_empty() {
        println!("\nNothing is left to train.");
        return;
    }
    println!("\n| training | trainings | steps each | images/s | hours in all |");
    println!("| --- | --- | --- | --- | --- |");
}

/// A run that represents a kind of pretraining, the number of trainings, and the experiments whose defences train.
type Kind<'a> = (&'a Run, usize, Vec<&'a Experiment>);

/// One for each kind of pretraining, with the defences of its runs; a twin is not defended.
fn kinds<'a>(left: &Left<'a>) -> Result<BTreeMap<String, Kind<'a>>> {
    let mut kinds: BTreeMap<String, Kind<'_>> = BTreeMap::new();
    let of = |twin: &&str| left.runs.iter().find(|run| run.twin == *twin);
    let twins = left.twins.iter().filter_map(of).map(|run| (*run, None));
    let backdoored = left.runs.iter().map(|run| (*run, Some(&run.experiment)));
    for (run, defended) in backdoored.chain(twins) {
        let key = serde_json::to_string(&(&run.experiment.data, &run.experiment.pretrain))?;
        let (_, trainings, all) = kinds.entry(key).or_insert((run, 0, Vec::new()));
        *trainings += 1;
        all.extend(defended);
    }
    Ok(kinds)
}

/// Trainings of one kind and length.
#[derive(Serialize)]
struct TrainingRow {
    name: String,
    trainings: usize,
    steps: usize,
    /// Images that one training processes.
    images: usize,
    /// Images per second.
    #[serde(rename = "images_per_second")]
    rate: f64,
}

impl TrainingRow {
    /// Hours of all of them together.
    fn hours(&self) -> f64 {
        (self.trainings * self.images) as f64 / self.rate / 3600.0
    }

    fn print(&self) {
        let Self { name, trainings, steps, rate, .. } = self;
        println!("| {name} | {trainings} | {steps} | {rate:.0} | {:.2} |", self.hours());
    }
}

/// Estimated duration of the pretraining of one model of `experiment` in seconds, from a short timing.
pub(crate) fn seconds_of_training(experiment: &Experiment) -> Result<f64> {
    let rows = rows(experiment, 1, &[])?;
    Ok(rows.iter().map(|row| row.images as f64 / row.rate).sum())
}

/// The pretrainings of a kind, and the trainings of its runs' defences.
fn rows(
    experiment: &Experiment,
    trainings: usize,
    defended: &[&Experiment],
) -> Result<Vec<TrainingRow>> {
    let splits = experiment.data.load(&progress::watch())?;
    let images = splits.train.labels.len();
    experiment.check_with(Some(images)).map_err(|wrong| experiment.source.wrong(wrong))?;
    let size = experiment.data.size();
    let mut config = experiment.pretrain.clone();
    let name = config.method.settings().name();
    let steps = config.train.steps(images);
    let whole = config.train.plan(experiment.seed, images);
    let trained = config.train.epochs * whole.images_per_epoch();
    config.train.epochs = 2;
    config.train.schedule = Schedule::CosinePerEpoch {};
    let short = EpochPlan { images: images.min(STEPS * whole.batch), ..whole };
    let rate = timed(experiment, &splits, short, |training, clock| {
        Ok(pretrain(&config, None, size, training, clock).map(drop)?)
    })?;
    let mut rows = vec![TrainingRow { name: name.into(), trainings, steps, images: trained, rate }];
    rows.extend(defended_rows(experiment, &splits, defended, rate)?);
    Ok(rows)
}

/// The trainings of the defences of `defended`, all with the images and the pretraining of `experiment`. Those that
/// train like the victim process `rate` images per second.
fn defended_rows(
    experiment: &Experiment,
    splits: &Splits,
    defended: &[&Experiment],
    rate: f64,
) -> Result<Vec<TrainingRow>> {
    let (victim, size) = (&experiment.pretrain, experiment.data.size());
    let (images, seed) = (splits.train.labels.len(), experiment.seed);
    // Defences that do not train like the victim are timed once for each kind of training.
    let mut rates: BTreeMap<String, f64> = BTreeMap::new();
    let mut kinds: BTreeMap<(&str, usize, String), TrainingRow> = BTreeMap::new();
    for defence in defended.iter().flat_map(|run| defences(&run.defend)) {
        let Workload { what, steps, images: passing } = defence.workload(victim, splits)?;
        let (kind, rate) = match defence.rehearsal(seed, images) {
            None => (String::new(), rate),
            Some(rehearsal) => {
                let kind = defence.identity(victim).defend.to_string();
                let rate = match rates.get(&kind) {
                    Some(rate) => *rate,
                    None => timed(experiment, splits, rehearsal.plan, |training, clock| {
                        let bench = Bench { victim, size, start: None, training };
                        (rehearsal.train)(&bench, clock)
                    })?,
                };
                rates.insert(kind.clone(), rate);
                (kind, rate)
            }
        };
        let name = format!("{}: {what}", victim.method.settings().name());
        let row = TrainingRow { name, trainings: 0, steps, images: passing, rate };
        kinds.entry((what, steps, kind)).or_insert(row).trainings += 1;
    }
    Ok(kinds.into_values().collect())
}

/// The times at which the epochs of a training in memory ended.
struct Clock {
    bar: TrainingBar,
    epochs: Vec<Instant>,
}

impl TrainObserver for Clock {
    fn on_start(&mut self, done: usize, steps: usize) -> Result<(), ObserverError> {
        self.bar.start(done, steps);
        Ok(())
    }

    fn on_step(&mut self, step: &StepReport) {
        self.bar.step(step);
    }

    fn on_epoch(&mut self, _: &mut EpochReport, _: &Encoder) -> Result<(), ObserverError> {
        self.epochs.push(Instant::now());
        Ok(())
    }

    fn interrupted(&mut self) -> bool {
        interrupted()
    }
}

/// Images per second of a training of two short epochs by `plan`, measured in the second one.
fn timed(
    experiment: &Experiment,
    splits: &Splits,
    plan: EpochPlan,
    train: impl FnOnce(&Training, &mut dyn TrainObserver) -> Result<(), DefendError>,
) -> Result<f64> {
    let set = Arc::new(Subset::new(splits.pretrain_set().clone(), (0..plan.images).collect())?);
    let device = device::open(&experiment.device)?;
    let training = Training::new(set, experiment.seed, &device);
    let training = Training { workers: experiment.workers, ..training };
    let mut clock = Clock { bar: TrainingBar::new("timing"), epochs: Vec::new() };
    train(&training, &mut clock)?;
    let seconds = clock.epochs.windows(2).map(|t| t[1] - t[0]).sum::<Duration>().as_secs_f64();
    Ok(plan.images_per_epoch() as f64 / seconds.max(1e-9))
}
