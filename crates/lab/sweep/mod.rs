//! The command `sweep`: a grid of runs, each in its own folder and process; clean twins are trained once.
//! Running the same command again goes on where it stopped.

mod dry_run;
mod makers;
mod plan;
mod workers;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::config::{ConfigError, Experiment};
use crate::device;
use crate::record::RunScores;
use crate::record::write_whole;
pub(crate) use dry_run::seconds_of_training;
pub(crate) use plan::File as SweepFile;
use plan::{Plan, Run};
use workers::{Outcome, SweepJob};

/// What the command line says of a sweep.
#[derive(Debug, Clone)]
pub struct SweepOptions {
    /// Runs at the same time, each with its share of the cores.
    pub jobs: usize,
    /// Devices to run on, one process on each; none = `jobs` processes on the device of their configs.
    pub devices: Vec<String>,
    /// Overrides of every run, `KEY=VALUE`.
    pub sets: Vec<String>,
    /// Only say what would be done, and how long it would take.
    pub dry_run: bool,
}

/// What is kept of a finished run beside its folder.
const KEPT: [&str; 3] = ["config.toml", "manifest.json", "scores.json"];

/// The experiments of the sweep of the file `path`, each checked, in the order they run.
///
/// # Errors
/// A [`ConfigError`] if the file or the config of a run is wrong.
pub fn read_sweep(path: &Path) -> Result<Vec<Experiment>, ConfigError> {
    Ok(Plan::read(path, &[])?.runs.into_iter().map(|run| run.experiment).collect())
}

/// Runs the sweep of the file `path`.
///
/// # Errors
/// A [`ConfigError`] if the file or the config of a run is wrong; at the end, if runs failed.
pub fn sweep(path: &Path, options: &SweepOptions) -> Result<()> {
    let plan = Plan::read(path, &options.sets)?;
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
    if options.dry_run {
        return dry_run::print(&plan, slots.len());
    }
    let (mut todo, mut done) = (Vec::new(), Vec::new());
    for run in &plan.runs {
        if let Some(scores) = finished(&plan, run)? {
            eprintln!("{}: done already", run.name);
            done.push((run, scores));
        } else {
            todo.push(run);
        }
    }
    eprintln!("{} of {} runs to do", todo.len(), plan.runs.len());
    let twins: Vec<&str> =
        plan.twins().into_iter().filter(|twin| todo.iter().any(|run| run.twin == *twin)).collect();
    makers::check(&plan, &todo, &done)?;
    let jobs = jobs(&plan, &todo, &twins)?;
    let outcomes = workers::work(&jobs, &slots, |job| match todo.get(job.id) {
        Some(run) => keep(&plan, run),
        None => Ok(()),
    })?;
    let failed = outcomes.iter().filter(|outcome| **outcome != Outcome::Done).count();
    if failed > 0 {
        bail!("{failed} of {} trainings failed or were skipped: see above", outcomes.len());
    }
    Ok(())
}

/// The processes of a sweep, each after the twin it needs.
fn jobs(plan: &Plan, todo: &[&Run], twins: &[&str]) -> Result<Vec<SweepJob>> {
    let mut jobs = Vec::new();
    for (id, run) in todo.iter().enumerate() {
        let needs = todo.len() + twins.iter().position(|twin| *twin == run.twin).unwrap_or(0);
        let twin = plan.out.join(&run.twin);
        if !jobs.iter().any(|job: &SweepJob| job.id == needs) {
            let name = run.twin.clone();
            let arguments = arguments(run, &twin, ["--until", "twin"].map(PathBuf::from))?;
            jobs.push(SweepJob { id: needs, name, folder: twin.clone(), arguments, needs: None });
        }
        let folder = plan.out.join(&run.name);
        let arguments = arguments(run, &folder, [PathBuf::from("--twin"), twin])?;
        jobs.push(SweepJob { id, name: run.name.clone(), folder, arguments, needs: Some(needs) });
    }
    Ok(jobs)
}

/// Writes the config of `run` to `folder` and gives the command line that runs it there.
fn arguments(run: &Run, folder: &Path, more: [PathBuf; 2]) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)
        .map_err(|e| anyhow::anyhow!("cannot create {}: {e}", folder.display()))?;
    let config = folder.join("config.toml");
    write_whole(&config, run.experiment.to_toml()?.as_bytes())?;
    let [option, value] = more;
    Ok(vec!["run".into(), config, "--out".into(), folder.into(), option, value])
}

/// The figures of `run` with its settings, if they are there already.
fn finished(plan: &Plan, run: &Run) -> Result<Option<RunScores>> {
    // Configs are compared, not their hashes: a key that came later has its default in the old one.
    let settings = |experiment: Experiment| {
        let device = device::backend(&experiment.device).into();
        Experiment { workers: 1, tensorboard: false, device, ..experiment }
    };
    let wanted = settings(run.experiment.clone());
    let same = |folder: &Path| {
        let config = Experiment::read(&folder.join("config.toml"), &[]);
        let same = config.is_ok_and(|config| settings(config) == wanted);
        RunScores::read(&folder.join("scores.json")).ok().filter(|_| same)
    };
    let kept = plan.results.as_ref().and_then(|results| same(&results.join(&run.name)));
    if kept.is_some() {
        return Ok(kept);
    }
    let own = same(&plan.out.join(&run.name));
    if own.is_some() {
        keep(plan, run)?;
    }
    Ok(own)
}

/// Copies what is kept of a finished run to the sweep's results.
fn keep(plan: &Plan, run: &Run) -> Result<()> {
    let Some(results) = &plan.results else { return Ok(()) };
    let folder = results.join(&run.name);
    std::fs::create_dir_all(&folder)
        .map_err(|e| anyhow::anyhow!("cannot create {}: {e}", folder.display()))?;
    for name in KEPT {
        let from = plan.out.join(&run.name).join(name);
        let bytes = std::fs::read(&from)
            .map_err(|e| anyhow::anyhow!("cannot read {}: {e}", from.display()))?;
        write_whole(&folder.join(name), &bytes)?;
    }
    Ok(())
}
