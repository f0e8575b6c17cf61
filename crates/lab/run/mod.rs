//! A run: its stages in order. A stage whose inputs and artefacts are unchanged is skipped, so the same command
//! resumes a run.

mod failure;
mod folder;
mod inputs;
mod interrupt;
mod lab;
mod labels;
pub(crate) mod progress;
mod progress_file;
mod selection;
mod stages;
mod state;
mod training_events;
mod until;
mod watched;

use std::path::Path;

use anyhow::Result;

use crate::Experiment;

pub(crate) use failure::why_failed;
pub use folder::RunFolder;
pub(crate) use interrupt::{GRACE, end_with_this, interrupted, pass_on};
pub use interrupt::{TRY_AGAIN, end_when_asked, preempted};
use lab::Lab;
pub(crate) use labels::labelled;
pub(crate) use selection::{Choice, told};
pub(crate) use stages::{Task, UnifiedProbe, read_out};
pub(crate) use state::RunState;
pub use until::Stage;

/// Runs `experiment` in `out` up to and including `until`. With `twin`, the clean twin is not trained but taken from that
/// run folder, which must contain one with the same settings.
///
/// # Errors
/// A [`ConfigError`](crate::ConfigError) if the experiment cannot run as configured, another error if it failed.
/// Artefacts of finished stages are kept, and error.txt says why a stage failed.
pub fn run(experiment: Experiment, out: &Path, twin: Option<&Path>, until: Stage) -> Result<()> {
    let source = experiment.source.clone();
    let lab = Lab::open(experiment, out, twin, until).map_err(|error| source.locate(error));
    let mut lab = lab.inspect_err(|error| failure::keep_in(out, error))?;
    failure::forget(&lab.folder)?;
    let ended = stages::run_all(&mut lab).map_err(|error| source.locate(error));
    ended.inspect_err(|error| failure::keep(&lab.folder, error))
}
