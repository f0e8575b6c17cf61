//! Trainings of the scans: without a run folder, with progress on the terminal, stopped by Ctrl-C.

use ssl_backdoor_ssl::{ObserverError, StepReport, TrainObserver};

use crate::run::interrupted;
use crate::run::progress::TrainingBar;

/// Shows the progress of a training and stops it on Ctrl-C.
pub(super) struct Shown(TrainingBar);

impl Shown {
    /// A training with the name `label`.
    pub fn new(label: &str) -> Self {
        Self(TrainingBar::new(label))
    }
}

impl TrainObserver for Shown {
    fn on_start(&mut self, done: usize, steps: usize) -> Result<(), ObserverError> {
        self.0.start(done, steps);
        Ok(())
    }

    fn on_step(&mut self, step: &StepReport) {
        self.0.step(step);
    }

    fn keeps_checkpoints(&self) -> bool {
        false
    }

    fn interrupted(&mut self) -> bool {
        interrupted()
    }
}
