//! What a method's config says, and the checks that several of them share.

use std::sync::Arc;

use ssl_backdoor_data::augment::Views;
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::EncoderConfig;

use crate::config::TrainConfig;
use crate::error::PretrainError;

/// The config of one method.
pub trait MethodSettings {
    /// The method's name in configs and results.
    fn name(&self) -> &'static str;

    /// What the method's publication says of a training of `epochs`.
    fn defaults(&self, epochs: usize) -> TrainConfig;

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

    /// Groups of a batch that have batch-norm statistics of their own, in a training with batches of `batch` images.
    fn bn_groups(&self, _batch: usize) -> usize {
        1
    }

    /// Can the method train on mixed images ([`Method::forward_mixed`](crate::Method::forward_mixed))?
    fn mixes(&self) -> bool {
        false
    }

    /// Is the loss a mean over images that do not see each other, so that a step may take its batch in parts
    /// ([`TrainConfig::accumulate`])? Not where images are told from others of the batch, or statistics of the batch
    /// enter the loss.
    fn accumulates(&self) -> bool {
        false
    }

    /// What the method sees of an image, for views of `size` pixels.
    ///
    /// # Errors
    /// [`PretrainError::Range`] for an `encoder` that the method does not train.
    fn views(
        &self,
        train: &TrainConfig,
        encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError>;
}

/// Checks what several methods have: a queue, an EMA, groups of batch norm, the length of a key.
pub(crate) fn check_queue(queue: usize, batch: usize) -> Result<(), OutOfRange> {
    let fits = queue > 0 && queue.is_multiple_of(batch) && queue <= 1 << 24;
    let allowed = format!("a multiple of batch = {batch}, at most 16,777,216");
    require(fits, "method.queue", queue, allowed)
}

pub(crate) fn check_momentum(momentum: f64) -> Result<(), OutOfRange> {
    require((0.0..=1.0).contains(&momentum), "method.momentum", momentum, "0 to 1")
}

pub(crate) fn check_temperature(temperature: f64) -> Result<(), OutOfRange> {
    let fits = temperature > 0.0 && temperature <= 100.0;
    require(fits, "method.temperature", temperature, "above 0, at most 100")
}

pub(crate) fn check_dim(field: &str, dim: usize) -> Result<(), OutOfRange> {
    require((1..=65_536).contains(&dim), field, dim, "1 to 65,536")
}

/// Fewest images in a group of batch norm that no config asks for: on eight GPUs MoCo v2 had so many on each.
const LEAST_GROUP: usize = 32;

/// Groups of a batch with batch-norm statistics of their own: what the config asks for, or else as many as the
/// `reference` had GPUs, or 1 if the batch has no such number of equal groups of [`LEAST_GROUP`] images or more.
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
    fn review_1_06_groups_are_the_references_where_the_batch_allows() {
        // MoCo v2 on two GPUs, BYOL and MSF on four.
        assert_eq!((groups(None, 2, 256), groups(None, 4, 512), groups(None, 4, 256)), (2, 4, 4));
        assert_eq!((groups(None, 2, 64), groups(None, 4, 128)), (2, 4));
        // Too small for groups of 32, or not divisible.
        assert_eq!((groups(None, 2, 62), groups(None, 4, 64), groups(None, 2, 101)), (1, 1, 1));
        // What is asked for is not second-guessed.
        assert_eq!((groups(Some(1), 2, 256), groups(Some(8), 2, 16)), (1, 8));
    }
}
