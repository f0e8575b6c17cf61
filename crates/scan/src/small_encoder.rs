//! The encoder that is trained for a set that comes without one.

use ssl_backdoor_model::{EncoderConfig, Stem};
use ssl_backdoor_ssl::{LearningRate, MethodConfig, MocoConfig, PretrainConfig, TrainConfig};

/// Approximate number of images that pass through a training.
const PASSES: usize = 60_000;
/// Largest number of epochs.
const EPOCHS: usize = 100;
/// Images in a step.
const BATCH: usize = 32;

/// MoCo v2 on a ResNet-18 of width 16, as in the quickstart, for a set of `images` images of `size` pixels a side. It
/// trains for `epochs`, or else on about 60,000 images in total, for at most 100 epochs.
pub fn small_encoder(images: usize, size: u32, epochs: Option<usize>) -> PretrainConfig {
    let stem = if size <= 64 { Stem::Small } else { Stem::Imagenet };
    let encoder = EncoderConfig::Resnet18 { width: 16, stem };
    let epochs = epochs.unwrap_or((PASSES / images.max(1)).clamp(1, EPOCHS));
    let (queue, momentum, dim, bn_groups) = (1024, 0.996, 64, Some(1));
    let method = MocoConfig { queue, momentum, dim, bn_groups, ..MocoConfig::default() };
    let config = PretrainConfig::new(MethodConfig::MocoV2(method), encoder, epochs);
    let train = TrainConfig {
        batch: BATCH,
        lr: LearningRate::Fixed(0.03),
        crop: (0.35, 1.0),
        checkpoint_every: epochs,
        ..config.train
    };
    PretrainConfig { train, ..config }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_trained_on_any_set_that_can_be_scanned() {
        for (images, size) in [(60, 16), (5000, 28), (200_000, 224)] {
            let config = small_encoder(images, size, None);
            config.check(Some(images), size).unwrap();
            let seen = config.train.epochs * images;
            assert!(images > PASSES || seen <= PASSES, "{seen}");
        }
        assert_eq!(small_encoder(5000, 28, None).train.epochs, 12);
        assert_eq!(small_encoder(5000, 28, Some(3)).train.epochs, 3);
    }
}
