//! The learning rate before the schedule, which may depend on the batch.

use serde::Serialize;

/// The learning rate before the schedule: in a config file one of the keys `lr` and `base_lr`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum LearningRate {
    /// The rate itself, whatever the batch.
    #[serde(rename = "lr")]
    Fixed(f64),
    /// The rate for a batch of 256 images; the rate used is proportional to the batch.
    #[serde(rename = "base_lr")]
    Base(f64),
}

impl LearningRate {
    /// The rate for batches of `batch` images.
    pub fn of(self, batch: usize) -> f64 {
        match self {
            Self::Fixed(lr) => lr,
            Self::Base(lr) => lr * (batch as f64 / 256.0),
        }
    }

    /// The key in a config file, and its value.
    pub(crate) fn key(self) -> (&'static str, f64) {
        match self {
            Self::Fixed(lr) => ("lr", lr),
            Self::Base(lr) => ("base_lr", lr),
        }
    }
}
