//! `sweep --dry-run`: how many trainings there are, and from a short timing of each kind how many hours they take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde_json::Map;
use ssl_backdoor_data::Subset;
use ssl_backdoor_ssl::{Schedule, Training, pretrain};

use super::plan::{Plan, Run};
use crate::config::Experiment;
use crate::interrupt::INTERRUPTED;
use crate::{device, progress};

/// Steps of the short timing, twice: the first epoch warms up.
const STEPS: usize = 8;

/// Prints the plan.
pub(super) fn print(plan: &Plan, jobs: usize) -> Result<()> {
    let twins = plan.twins();
    println!("Sweep {}: {} runs, {} clean twins.", plan.name, plan.runs.len(), twins.len());
    println!("Run folders: {}", plan.out.display());
    if let Some(results) = &plan.results {
        println!("Figures are kept in {}", results.display());
    }
    // One timing for each kind of pretraining.
    let mut kinds: BTreeMap<String, (&Run, usize)> = BTreeMap::new();
    let twin_runs = twins.iter().filter_map(|twin| plan.runs.iter().find(|run| run.twin == *twin));
    for run in plan.runs.iter().chain(twin_runs) {
        let key = serde_json::to_string(&(&run.experiment.data, &run.experiment.pretrain))?;
        kinds.entry(key).or_insert((run, 0)).1 += 1;
    }
    println!("\n| method | trainings | steps each | images/s | hours in all |");
    println!("| --- | --- | --- | --- | --- |");
    let mut total = Some(0.0);
    for (run, trainings) in kinds.values() {
        let config = &run.experiment.pretrain;
        let method = config.method.settings().name();
        match time(&run.experiment) {
            Ok(Timing { steps, rate }) => {
                let hours = (trainings * steps * config.batch) as f64 / rate / 3600.0;
                println!("| {method} | {trainings} | {steps} | {rate:.0} | {hours:.2} |");
                total = total.map(|total| total + hours);
            }
            Err(error) => {
                println!("| {method} | {trainings} | {} epochs | - | - |", config.epochs);
                eprintln!("{}: not timed: {error}", run.name);
                total = None;
            }
        }
    }
    match total {
        Some(hours) => println!(
            "\nAbout {hours:.1} hours of pretraining on all cores; features, probes and defences come on top. \
             With --jobs {jobs} the processes share the cores."
        ),
        None => println!("\nNot every kind could be timed: see above."),
    }
    Ok(())
}

struct Timing {
    steps: usize,
    /// Images a second.
    rate: f64,
}

/// Trains a few steps twice and times the second time.
fn time(experiment: &Experiment) -> Result<Timing> {
    let splits = experiment.data.load(&progress::watch())?;
    let images = splits.train.labels.len();
    experiment.check_with(images).map_err(anyhow::Error::msg)?;
    let mut config = experiment.pretrain.clone();
    let steps = images / config.batch * config.epochs;
    let indices = (0..images.min(STEPS * config.batch)).collect();
    let set = Arc::new(Subset::new(splits.pretrain_set().clone(), indices));
    config.epochs = 2;
    config.schedule = Schedule::CosinePerEpoch;
    let folder = tempfile::tempdir()?;
    let training = Training {
        set,
        seed: experiment.seed,
        device: &device::open(&experiment.device).map_err(anyhow::Error::msg)?,
        workers: experiment.workers,
        folder: folder.path(),
        identity: "timing",
        label: "timing",
        interrupt: &INTERRUPTED,
    };
    let mut times = Vec::new();
    pretrain(&config, None, experiment.data.size(), &training, &mut |_, _| {
        times.push(Instant::now());
        Ok(Map::new())
    })?;
    let seconds = times.windows(2).map(|t| t[1] - t[0]).sum::<std::time::Duration>().as_secs_f64();
    let timed = images.min(STEPS * config.batch) / config.batch * config.batch;
    Ok(Timing { steps, rate: timed as f64 / seconds.max(1e-9) })
}
