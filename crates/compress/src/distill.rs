//! Distillation with the settings of CompReSS.

use std::sync::Arc;

use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_model::{Encoder, EncoderConfig};
use ssl_backdoor_ssl::{PretrainError, TrainObserver, Training, train};

use crate::{Compress, CompressConfig};

/// Distils `teacher` (in evaluation mode) into a student of the same architecture on the clean
/// images of `training`, with views of `size` pixels, or resumes from the checkpoint that `observer` returns.
///
/// # Errors
/// As [`CompressConfig::check_part`], [`Compress::new`] and [`train`].
pub fn distill(
    config: &CompressConfig,
    encoder: &EncoderConfig,
    teacher: Encoder,
    size: u32,
    training: &Training,
    observer: &mut dyn TrainObserver,
) -> Result<Encoder, PretrainError> {
    let images = training.set.len();
    config.check_part(images)?;
    let how = config.training(images);
    let views = Arc::new(ChainViews::weak(size, how.crop));
    let (bank, device) = (config.bank_rows(images), training.autodiff_device());
    let method = Compress::new(config, teacher, encoder, bank, training.seed, &device)?;
    train(training, &how, views, method, observer)
}
