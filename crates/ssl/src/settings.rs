//! The trait of a method's config, and checks shared by several methods.

use std::sync::Arc;

use ssl_backdoor_data::augment::Views;
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::{EncoderConfig, VitInitial};

use crate::config::TrainConfig;
use crate::error::PretrainError;

/// Length of a training relative to the one that a config was written for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rescaling {
    /// Epochs of the old training and of the new one.
    pub epochs: [usize; 2],
    /// Images in a batch of the old training and of the new one.
    pub batch: [usize; 2],
    /// Images of the new training as a share of those of the old one.
    pub images: f64,
}

impl Rescaling {
    /// The epoch that is at the same share of the new training as `epoch` of the old one, rounded down.
    pub fn epoch(&self, epoch: usize) -> usize {
        let [old, new] = self.epochs;
        epoch * new / old.max(1)
    }

    /// The step that is at the same share of the new training as `step` of the old one, rounded down.
    pub fn step(&self, step: usize) -> usize {
        let ([old, new], [old_batch, new_batch]) = (self.epochs, self.batch);
        let longer = new as f64 * old_batch as f64 * self.images;
        // A share of 0.2 must not lose a step to rounding.
        (step as f64 * longer / (old.max(1) as f64 * new_batch.max(1) as f64) + 1e-6) as usize
    }
}

/// The config of one method.
pub trait MethodSettings {
    /// The method's name in configs and results.
    fn name(&self) -> &'static str;

    /// The publication's training settings for `encoder` over `epochs` epochs.
    fn defaults(&self, encoder: &EncoderConfig, epochs: usize) -> TrainConfig;

    /// Checks the method's own values against the training and the `encoder`.
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the field.
    fn check(&self, train: &TrainConfig, encoder: &EncoderConfig) -> Result<(), PretrainError>;

    /// Checks the method's own values against the number of training images.
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the field.
    fn check_images(&self, _images: usize) -> Result<(), PretrainError> {
        Ok(())
    }

    /// Checks the method's own clocks, the steps and epochs at which something changes, against the length of the
    /// training; `images` is the size of the training set (`None` if it is not known yet).
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the field.
    fn check_clocks(
        &self,
        _train: &TrainConfig,
        _images: Option<usize>,
    ) -> Result<(), PretrainError> {
        Ok(())
    }

    /// Adapts the method's own clocks to another length of training.
    fn rescale(&mut self, _by: &Rescaling) {}

    /// The initial weights of a transformer; `None` for those of MAE.
    fn vit_initial(&self) -> Option<VitInitial> {
        None
    }

    /// Number of groups of a batch with separate batch-norm statistics, in a training with batches of `batch` images.
    fn bn_groups(&self, _batch: usize) -> usize {
        1
    }

    /// Whether the method can train on mixed images ([`Method::forward_mixed`](crate::Method::forward_mixed)).
    fn mixes(&self) -> bool {
        false
    }

    /// Whether a step may process its batch in parts ([`TrainConfig::accumulate`]): the loss is a mean over images,
    /// and neither contrasts the images of a batch nor uses statistics of the batch, unless a
    /// [`survey`](crate::Method::survey) computes these beforehand.
    fn accumulates(&self) -> bool {
        false
    }

    /// The views of an image that the method trains on, of `size` pixels.
    ///
    /// # Errors
    /// [`PretrainError::Range`] for an `encoder` that the method does not train, or small crops that do not fit.
    fn views(
        &self,
        train: &TrainConfig,
        encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError>;
}

/// Checks the length of a queue of keys.
pub(crate) fn check_queue(queue: usize, batch: usize) -> Result<(), OutOfRange> {
    let fits = queue > 0 && queue.is_multiple_of(batch) && queue <= 1 << 24;
    let allowed = format!("a multiple of batch = {batch}, at most 16,777,216");
    require(fits, "method.queue", queue, allowed)
}

pub(crate) fn check_momentum(momentum: f64) -> Result<(), OutOfRange> {
    require((0.0..=1.0).contains(&momentum), "method.momentum", momentum, "0 to 1")
}

pub(crate) fn check_temperature(temperature: f64) -> Result<(), OutOfRange> {
    check_softness("method.temperature", temperature)
}

/// Checks a temperature, or a field that acts like one.
pub(crate) fn check_softness(field: &str, value: f64) -> Result<(), OutOfRange> {
    require(value > 0.0 && value <= 100.0, field, value, "above 0, at most 100")
}

pub(crate) fn check_dim(field: &str, dim: usize) -> Result<(), OutOfRange> {
    require((1..=65_536).contains(&dim), field, dim, "1 to 65,536")
}

/// Smallest default group of batch norm: on eight GPUs, MoCo v2 had this many images on each.
const LEAST_GROUP: usize = 32;

/// Number of groups of a batch with separate batch-norm statistics: as configured, else the number of GPUs of the
/// `reference`, or 1 if the batch does not divide into that many equal groups of [`LEAST_GROUP`] images or more.
pub(crate) fn groups(asked: Option<usize>, reference: usize, batch: usize) -> usize {
    let fits = batch.is_multiple_of(reference) && batch / reference >= LEAST_GROUP;
    asked.unwrap_or(if fits { reference } else { 1 })
}

pub(crate) fn check_groups(groups: Option<usize>, batch: usize) -> Result<(), OutOfRange> {
    let Some(groups) = groups else { return Ok(()) };
    let fits = groups > 0 && batch.is_multiple_of(groups) && batch / groups >= 2;
    let allowed = format!("a divisor of batch = {batch}, with 2 images or more in a group");
    require(fits, "method.bn_groups", groups, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_stay_at_their_share_of_a_training() {
        let by = Rescaling { epochs: [200, 800], batch: [256, 64], images: 0.05 };
        // Step 494 of 200 · 494 is at the same share as step 395 of 800 · 494 · 4 / 20.
        assert_eq!((by.step(494), by.step(0), by.step(1)), (395, 0, 0));
        assert_eq!((by.epoch(15), by.epoch(0), by.epoch(1)), (60, 0, 4));
        let shorter = Rescaling { epochs: [100, 5], batch: [64, 64], images: 0.2 };
        assert_eq!((shorter.epoch(30), shorter.epoch(1), shorter.step(500)), (1, 0, 5));
    }

    #[test]
    fn review_1_06_groups_are_the_references_where_the_batch_allows() {
        // MoCo v2 on two GPUs, BYOL and MSF on four.
        assert_eq!((groups(None, 2, 256), groups(None, 4, 512), groups(None, 4, 256)), (2, 4, 4));
        assert_eq!((groups(None, 2, 64), groups(None, 4, 128)), (2, 4));
        // Too small for groups of 32, or not divisible.
        assert_eq!((groups(None, 2, 62), groups(None, 4, 64), groups(None, 2, 101)), (1, 1, 1));
        // An explicit number is used as is.
        assert_eq!((groups(Some(1), 2, 256), groups(Some(8), 2, 16)), (1, 8));
    }
}
