//! Trainings of the scans: without a run folder, shown on the terminal, ended by Ctrl-C.

use ssl_backdoor_ssl::{ObserverError, StepReport, TrainObserver};

use crate::run::interrupted;
use crate::run::progress::TrainingBar;

/// Shows the progress of a training, which Ctrl-C ends.
pub(super) struct Shown(TrainingBar);

impl Shown {
    /// A training that is called `label`.
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

    fn interrupted(&mut self) -> bool {
        interrupted()
    }
}
