//! The command `sweep`: a grid of runs, each in its own folder and process; clean twins are trained once.
//! Running the same command again resumes where it stopped.

mod board;
mod collect;
mod counted;
mod dry_run;
mod eta;
mod figures;
mod job;
mod left;
mod makers;
mod plan;
mod slurm;
mod slurm_script;
mod status;
mod submission;
mod workers;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use crate::config::{ConfigError, Experiment};
use crate::device::{self, DeviceError};
use crate::record::RunScores;
pub(crate) use dry_run::seconds_of_training;
use job::SweepJob;
use plan::{Plan, Run};
use workers::Outcome;

pub use collect::collect_sweep;
pub use plan::SweepSource;
pub use slurm::submit_sweep;
pub use slurm_script::SlurmOptions;
pub use status::sweep_status;

/// Options of a sweep.
#[derive(Debug, Clone)]
pub struct SweepOptions {
    /// Number of runs at the same time, each with its share of the cores.
    pub jobs: usize,
    /// Devices to run on, one process on each; if empty, `jobs` processes run on the devices of their configs.
    pub devices: Vec<String>,
    /// Only print what would be done, and how long it would take.
    pub dry_run: bool,
    /// Print it as JSON.
    pub json: bool,
}

/// The experiments of the sweep file `path`, each checked, in the order in which they run.
///
/// # Errors
/// A [`ConfigError`] if the file or the config of a run is wrong.
pub fn read_sweep(path: &Path) -> Result<Vec<Experiment>, ConfigError> {
    let source = SweepSource { file: path.into(), ..SweepSource::default() };
    Ok(Plan::read(&source)?.runs.into_iter().map(|run| run.experiment).collect())
}

/// Runs the sweep `source`.
///
/// # Errors
/// A [`ConfigError`] if the file or the config of a run is wrong; at the end, if runs failed.
pub fn sweep(source: &SweepSource, options: &SweepOptions) -> Result<()> {
    let plan = Plan::read(source)?;
    if options.jobs == 0 {
        return Err(ConfigError("--jobs 0 runs nothing: allowed are 1 or more".into()).into());
    }
    for name in &options.devices {
        device::open(name).map_err(|e| ConfigError(format!("--devices: {e}")))?;
    }
    let slots: Vec<Option<String>> = match options.devices.is_empty() {
        true => vec![None; options.jobs],
        false => options.devices.iter().cloned().map(Some).collect(),
    };
    if options.devices.is_empty() {
        on_each_device(&plan, |name| device::open(name).map(drop))?;
    }
    if options.dry_run {
        return dry_run::print(&plan, slots.len(), options.json);
    }
    let (todo, done) = split(&plan)?;
    makers::check(&plan, &todo, &done, false)?;
    let jobs = SweepJob::all(&plan, &todo, &plan.out)?;
    let outcomes = workers::work(&jobs, &slots, |job| match todo.get(job.id) {
        Some(run) => figures::keep(&plan, run),
        None => Ok(()),
    })?;
    let failed = outcomes.iter().filter(|outcome| **outcome != Outcome::Done).count();
    if failed > 0 {
        bail!("{failed} of {} trainings failed or were skipped: see above", outcomes.len());
    }
    Ok(())
}

/// Checks every device that a run of the plan names.
fn on_each_device(
    plan: &Plan,
    check: impl Fn(&str) -> Result<(), DeviceError>,
) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for Run { experiment, .. } in &plan.runs {
        if seen.insert(&experiment.device) {
            check(&experiment.device).map_err(|e| experiment.source.wrong(e))?;
        }
    }
    Ok(())
}

/// The runs that are left to do, and those that are done.
type Split<'a> = (Vec<&'a Run>, Vec<(&'a Run, RunScores)>);

/// The runs that are left to do, and those that are done, whose figures are stored. Prints which are done.
fn split(plan: &Plan) -> Result<Split<'_>> {
    let (mut todo, mut done) = (Vec::new(), Vec::new());
    for run in &plan.runs {
        if let Some(scores) = figures::collect(plan, run)? {
            eprintln!("{}: done already", run.name);
            done.push((run, scores));
        } else {
            todo.push(run);
        }
    }
    eprintln!("{} of {} runs to do", todo.len(), plan.runs.len());
    Ok((todo, done))
}
