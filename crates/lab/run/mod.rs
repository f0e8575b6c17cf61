//! A run: its stages in order. Each writes its artefacts whole; one whose inputs and artefacts are unchanged is skipped,
//! so running again resumes.

mod folder;
mod inputs;
mod interrupt;
mod lab;
mod labels;
pub(crate) mod progress;
mod selection;
mod stages;
mod training_events;
mod until;
mod watched;

use std::path::Path;

use anyhow::Result;

use crate::Experiment;

pub use folder::RunFolder;
pub use interrupt::end_on_ctrl_c;
pub(crate) use interrupt::{INTERRUPTED, end_with_this};
use lab::Lab;
pub(crate) use labels::labelled;
pub(crate) use selection::{Choice, told};
pub(crate) use stages::{Task, UnifiedProbe, read_out};
pub use until::Stage;

/// Runs `experiment` in `out` up to and including `until`. With `twin`, the clean twin is not
/// trained but taken from that run folder, which must hold one of the same settings.
///
/// # Errors
/// A [`ConfigError`](crate::ConfigError) if the experiment cannot run as configured, anything else if it failed on the
/// way; artefacts of finished stages stay.
pub fn run(experiment: Experiment, out: &Path, twin: Option<&Path>, until: Stage) -> Result<()> {
    let source = experiment.source.clone();
    let lab = Lab::open(experiment, out, twin, until);
    lab.and_then(|mut lab| stages::run_all(&mut lab)).map_err(|error| source.locate(error))
}
