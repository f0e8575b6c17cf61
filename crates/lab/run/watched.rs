//! What a run does beside a training: logs and checkpoints in the model's folder, a bar on the terminal, warnings, and
//! the end when somebody asks for it.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde_json::{Map, Value};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_ssl::{
    Checkpoint, EpochReport, ObserverError, PretrainError, StepReport, TrainObserver, TrainState,
    TrainingFolder,
};

use super::interrupt::INTERRUPTED;
use super::progress::{TrainingBar, say_beside_bars};
use super::training_events::TrainingEvents;

/// Figures of an encoder after an epoch, counted from 0, for the training's log.
type Figures<'a> = dyn FnMut(&Encoder, usize) -> Result<Map<String, Value>, ObserverError> + 'a;

/// The observer of a training in a run folder.
pub(crate) struct Watched<'a> {
    folder: TrainingFolder,
    bar: TrainingBar,
    figures: Option<Box<Figures<'a>>>,
    /// The folder, if it gets an event file, and the file once the training has started.
    events: Option<(PathBuf, Option<TrainingEvents>)>,
}

impl<'a> Watched<'a> {
    /// A training whose files go to `folder`, of this `identity` (a hash of all that decides it); the bar says `label`.
    pub fn new(folder: &Path, identity: &str, label: &str) -> Self {
        let folder = TrainingFolder::new(folder, identity);
        Self { folder, bar: TrainingBar::new(label), figures: None, events: None }
    }

    /// The same with an event file for TensorBoard in `folder`, if `wanted`.
    pub fn with_events(self, folder: &Path, wanted: bool) -> Self {
        Self { events: wanted.then(|| (folder.into(), None)), ..self }
    }

    /// The same with more figures in each epoch's line.
    pub fn with_figures(
        self,
        figures: impl FnMut(&Encoder, usize) -> Result<Map<String, Value>, ObserverError> + 'a,
    ) -> Self {
        Self { figures: Some(Box::new(figures)), ..self }
    }
}

/// An event file that cannot be written.
fn unwritten(folder: &Path, error: &std::io::Error) -> PretrainError {
    PretrainError::File { path: folder.into(), reason: error.to_string() }
}

impl TrainObserver for Watched<'_> {
    fn resume_from(&mut self) -> Result<Option<Checkpoint>, ObserverError> {
        self.folder.resume_from()
    }

    fn on_start(&mut self, done: usize, steps: usize) -> Result<(), ObserverError> {
        self.bar.start(done, steps);
        self.folder.on_start(done, steps)?;
        if let Some((folder, events)) = &mut self.events {
            let started = TrainingEvents::start(folder);
            *events = Some(started.map_err(|e| unwritten(folder, &e))?);
        }
        Ok(())
    }

    fn on_step(&mut self, step: &StepReport) {
        self.bar.step(step);
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
        INTERRUPTED.load(Ordering::Relaxed)
    }

    fn on_warning(&mut self, warning: &PretrainError) {
        say_beside_bars(&format!("warning: {warning}"));
    }
}
