//! The figures of a sweep's finished runs, in their folders and in the results folder.

use std::path::Path;

use anyhow::Result;

use super::plan::{Plan, Run};
use crate::config::Experiment;
use crate::record::{RunScores, write_whole};

/// The files of a finished run that are copied to the results folder.
const KEPT: [&str; 3] = ["config.toml", "manifest.json", "scores.json"];

/// The figures of `run` with its settings, if they already exist.
pub(super) fn find(plan: &Plan, run: &Run) -> Option<RunScores> {
    kept(plan, run).or_else(|| with_settings(run, &plan.out.join(&run.name)))
}

/// Like [`find`]; figures that are only in the run folder are copied to the results folder.
///
/// # Errors
/// They cannot be copied.
pub(super) fn collect(plan: &Plan, run: &Run) -> Result<Option<RunScores>> {
    let kept = kept(plan, run);
    if kept.is_some() {
        return Ok(kept);
    }
    let own = find(plan, run);
    if own.is_some() {
        keep(plan, run)?;
    }
    Ok(own)
}

/// The figures of `run` in the results folder.
fn kept(plan: &Plan, run: &Run) -> Option<RunScores> {
    with_settings(run, &plan.results.as_ref()?.join(&run.name))
}

/// The figures in `folder`, if their settings are those of `run`.
fn with_settings(run: &Run, folder: &Path) -> Option<RunScores> {
    let config = Experiment::read(&folder.join("config.toml"), &[]).ok()?;
    let same = config.scores_as(&run.experiment);
    RunScores::read(&folder.join("scores.json")).ok().filter(|_| same)
}

/// Copies the [`KEPT`] files of a finished run to the sweep's results folder, if it has one.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn keep(plan: &Plan, run: &Run) -> Result<()> {
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
