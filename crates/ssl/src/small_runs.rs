//! Helpers for tests of whole trainings: a set of drawn images, and a training in a folder that may be interrupted.

use ssl_backdoor_data::{DataConfig, SampleSet, Shapes};
use ssl_backdoor_model::Encoder;

use crate::error::ObserverError;
use crate::folder::TrainingFolder;
use crate::observer::{Checkpoint, EpochReport, StepReport, TrainObserver, TrainState};

/// Drawn images of `size` pixels, `per_class` of each of ten classes.
pub(crate) fn drawn(size: u32, per_class: u32) -> SampleSet {
    let data = DataConfig::Shapes(Shapes {
        size,
        native: None,
        per_class,
        eval_per_class: 1,
        seed: 0,
        eval: Default::default(),
    });
    data.load(&|_, _, _| {}).unwrap().pretrain_set().clone()
}

/// When a training is interrupted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum When {
    Never,
    AfterEachStep,
    /// Before the first step.
    AtOnce,
}

/// Saves a training to a folder, and interrupts it as requested.
pub(crate) struct Watch {
    folder: TrainingFolder,
    interrupt: When,
    /// Whether it has taken a step.
    stepped: bool,
}

impl Watch {
    pub fn new(folder: TrainingFolder, interrupt: When) -> Self {
        Self { folder, interrupt, stepped: false }
    }
}

impl TrainObserver for Watch {
    fn resume_from(&mut self) -> Result<Option<Checkpoint>, ObserverError> {
        self.folder.resume_from()
    }

    fn on_start(&mut self, done: usize, steps: usize) -> Result<(), ObserverError> {
        self.folder.on_start(done, steps)
    }

    fn on_step(&mut self, _: &StepReport) {
        self.stepped = true;
    }

    fn on_epoch(
        &mut self,
        epoch: &mut EpochReport,
        encoder: &Encoder,
    ) -> Result<(), ObserverError> {
        self.folder.on_epoch(epoch, encoder)
    }

    fn on_checkpoint(&mut self, state: &TrainState<'_>) -> Result<(), ObserverError> {
        self.folder.on_checkpoint(state)
    }

    fn interrupted(&mut self) -> bool {
        self.interrupt == When::AtOnce || self.interrupt == When::AfterEachStep && self.stepped
    }
}
