//! The services of a run for a training: logs and checkpoints in the model's folder, a progress bar, warnings, and
//! stopping on request.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_ssl::{
    Checkpoint, EpochReport, ObserverError, PretrainError, StepReport, TrainObserver, TrainState,
    TrainingFolder,
};

use super::interrupt;
use super::progress::{TrainingBar, say_beside_bars};
use super::progress_file::ProgressFile;
use super::training_events::TrainingEvents;

/// Figures of an encoder after an epoch, counted from 0, for the training's log.
type Figures<'a> = dyn FnMut(&Encoder, usize) -> Result<Map<String, Value>, ObserverError> + 'a;

/// The observer of a training in a run folder.
pub(crate) struct Watched<'a> {
    folder: TrainingFolder,
    bar: TrainingBar,
    progress: ProgressFile,
    figures: Option<Box<Figures<'a>>>,
    /// The folder, if it gets an event file, and the file once the training has started.
    events: Option<(PathBuf, Option<TrainingEvents>)>,
}

impl<'a> Watched<'a> {
    /// A training with files in `folder`, this `identity` (a hash of everything that determines it), and a bar with the
    /// name `label`.
    pub fn new(folder: &Path, identity: &str, label: &str) -> Self {
        let progress = ProgressFile::new(folder);
        let folder = TrainingFolder::new(folder, identity);
        Self { folder, bar: TrainingBar::new(label), progress, figures: None, events: None }
    }

    /// Adds an event file for TensorBoard in `folder`, if `wanted`.
    pub fn with_events(self, folder: &Path, wanted: bool) -> Self {
        Self { events: wanted.then(|| (folder.into(), None)), ..self }
    }

    /// Adds figures to each epoch's line.
    pub fn with_figures(
        self,
        figures: impl FnMut(&Encoder, usize) -> Result<Map<String, Value>, ObserverError> + 'a,
    ) -> Self {
        Self { figures: Some(Box::new(figures)), ..self }
    }
}

/// The error for an event file that cannot be written.
fn unwritten(folder: &Path, error: &std::io::Error) -> PretrainError {
    PretrainError::File { path: folder.into(), reason: error.to_string() }
}

impl TrainObserver for Watched<'_> {
    fn resume_from(&mut self) -> Result<Option<Checkpoint>, ObserverError> {
        self.folder.resume_from()
    }

    fn on_start(&mut self, done: usize, steps: usize) -> Result<(), ObserverError> {
        self.bar.start(done, steps);
        self.progress.start(done, steps);
        self.folder.on_start(done, steps)?;
        if let Some((folder, events)) = &mut self.events {
            let started = TrainingEvents::start(folder);
            *events = Some(started.map_err(|e| unwritten(folder, &e))?);
        }
        Ok(())
    }

    fn on_step(&mut self, step: &StepReport) {
        self.bar.step(step);
        self.progress.step(step);
    }

    fn on_epoch(
        &mut self,
        epoch: &mut EpochReport,
        encoder: &Encoder,
    ) -> Result<(), ObserverError> {
        if let Some(figures) = &mut self.figures {
            epoch.extra.extend(figures(encoder, epoch.epoch)?);
        }
        self.folder.on_epoch(epoch, encoder)?;
        if let Some((folder, Some(events))) = &self.events {
            let added = events.append(&epoch.figures(), &epoch.times());
            added.map_err(|e| unwritten(folder, &e))?;
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, state: &TrainState<'_>) -> Result<(), ObserverError> {
        self.folder.on_checkpoint(state)
    }

    fn interrupted(&mut self) -> bool {
        interrupt::interrupted()
    }

    fn on_warning(&mut self, warning: &PretrainError) {
        say_beside_bars(&format!("warning: {warning}"));
    }
}
