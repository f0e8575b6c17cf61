//! Measurements of an epoch.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Map;
use ssl_backdoor_data::TriggerVisibility;

use crate::canary::Spread;
use crate::feed::Fed;
use crate::observer::{EpochReport, EpochTiming};

/// What is measured within an epoch; a checkpoint in its midst keeps all but the times.
#[derive(Serialize, Deserialize)]
pub(crate) struct Meter {
    #[serde(skip, default = "Instant::now")]
    since: Instant,
    /// What the network waited for views since then.
    #[serde(skip)]
    waited: Duration,
    /// The copies of batches to the device since then.
    #[serde(skip)]
    copied: Duration,
    /// What the device still computed after them.
    #[serde(skip)]
    pub busy: Duration,
    /// Images since then.
    #[serde(skip)]
    images: usize,
    pub losses: Vec<f32>,
    /// Norms of the gradients.
    pub norms: Vec<f32>,
    /// Shares of right answers of a pretext task.
    pub accuracy: Vec<f32>,
    /// How the embeddings of the last whole batch spread, once it is done.
    #[serde(default)]
    pub spread: Option<Spread>,
    #[serde(rename = "sightings")]
    visibility: TriggerVisibility,
}

/// The state of the training at the end of an epoch.
pub(crate) struct EpochEnd {
    /// The epoch, from 0.
    pub epoch: usize,
    /// Steps done.
    pub step: usize,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Size of the last batch as a share of the others'.
    pub last: f64,
    /// Threads that prepared views.
    pub workers: usize,
}

impl Meter {
    pub fn new() -> Self {
        Self {
            since: Instant::now(),
            waited: Duration::ZERO,
            copied: Duration::ZERO,
            busy: Duration::ZERO,
            images: 0,
            losses: Vec::new(),
            norms: Vec::new(),
            accuracy: Vec::new(),
            spread: None,
            visibility: TriggerVisibility::default(),
        }
    }

    /// Counts a batch that a step takes.
    pub fn fed(&mut self, batch: &Fed) {
        self.waited += batch.waited;
        self.copied += batch.copied;
        self.images += batch.images;
        self.visibility.merge(&batch.visibility);
    }

    /// The epoch's figures.
    pub fn report(self, end: &EpochEnd) -> EpochReport {
        let last = end.last;
        let some = |values: &[f32], last| (!values.is_empty()).then(|| mean(values, last));
        EpochReport {
            epoch: end.epoch,
            step: end.step,
            loss: mean(&self.losses, last),
            lr: end.lr,
            grad_norm: some(&self.norms, 1.0),
            pretext_acc: some(&self.accuracy, last).map(|share| 100.0 * share),
            spread: self.spread,
            visibility: self.visibility,
            timing: EpochTiming {
                elapsed: self.since.elapsed(),
                waited: self.waited,
                copied: self.copied,
                busy: self.busy,
                images: self.images,
                workers: end.workers,
            },
            extra: Map::new(),
        }
    }
}

/// Mean over the images of batches that have one size, except for the last, which is `last` times as large.
fn mean(values: &[f32], last: f64) -> f64 {
    let Some((end, whole)) = values.split_last() else { return 0.0 };
    let sum = whole.iter().map(|&value| f64::from(value)).sum::<f64>() + last * f64::from(*end);
    sum / (whole.len() as f64 + last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn review_1_09_a_smaller_last_batch_counts_by_its_images() {
        // Batches of 8, 8 and 4 images.
        assert_eq!(mean(&[1.0, 2.0, 6.0], 0.5), (8.0 * 1.0 + 8.0 * 2.0 + 4.0 * 6.0) / 20.0);
        // Whole batches: the mean of the values.
        assert_eq!(mean(&[1.0, 2.0, 6.0], 1.0), 3.0);
        assert_eq!((mean(&[5.0], 0.25), mean(&[], 1.0)), (5.0, 0.0));
    }
}
