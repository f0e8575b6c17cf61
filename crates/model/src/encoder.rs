//! The encoders: which there are, and the one type that holds any of them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::resnet::{Blocks, pool};
use crate::{ModelError, ResNet, Stem, Vit};

/// The `pretrain.encoder` table. One arm per encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EncoderConfig {
    /// ResNet-18: two basic blocks in each of four stages of 1, 2, 4, 8 × `width` channels.
    Resnet18 {
        /// Channels of the first stage; 64 is the standard network.
        width: usize,
        /// The first layers.
        stem: Stem,
    },
    /// ResNet-50: 3, 4, 6, 3 bottlenecks in stages of 4, 8, 16, 32 × `width` channels.
    Resnet50 {
        /// Inner channels of the first stage; 64 is the standard network.
        width: usize,
        /// The first layers.
        stem: Stem,
    },
    /// A vision transformer with a class token and fixed positions, as MAE's encoder.
    Vit {
        /// Length of a token, a multiple of 4; ViT-B has 768.
        dim: usize,
        /// Blocks; ViT-B has 12.
        depth: usize,
        /// Attention heads, a divisor of `dim`; ViT-B has 12.
        heads: usize,
        /// Side of a patch in pixels; 16 at 224 px, 4 at 32 px.
        patch: usize,
    },
}

impl EncoderConfig {
    /// Checks the sizes.
    ///
    /// # Errors
    /// A width outside 1 to 512, a transformer whose sizes do not fit each other.
    pub fn check(&self) -> Result<(), ModelError> {
        let wrong = |key, value: usize, allowed| {
            Err(ModelError::Range { key, value: value.to_string(), allowed })
        };
        match *self {
            Self::Resnet18 { width, .. } | Self::Resnet50 { width, .. } => {
                if !(1..=512).contains(&width) {
                    let allowed = "allowed are 1 to 512 channels";
                    return wrong("pretrain.encoder.width", width, allowed);
                }
            }
            Self::Vit { dim, depth, heads, patch } => {
                if !(4..=8192).contains(&dim) || !dim.is_multiple_of(4) {
                    let allowed = "allowed are multiples of 4 from 4 to 8,192";
                    return wrong("pretrain.encoder.dim", dim, allowed);
                }
                if !(1..=128).contains(&depth) {
                    return wrong("pretrain.encoder.depth", depth, "allowed are 1 to 128 blocks");
                }
                if heads == 0 || !dim.is_multiple_of(heads) {
                    let allowed = "allowed are divisors of pretrain.encoder.dim";
                    return wrong("pretrain.encoder.heads", heads, allowed);
                }
                if !(1..=256).contains(&patch) {
                    return wrong("pretrain.encoder.patch", patch, "allowed are 1 to 256 pixels");
                }
            }
        }
        Ok(())
    }

    /// Checks that images of `size` pixels fit the encoder.
    ///
    /// # Errors
    /// A patch that does not divide `size`.
    pub fn check_size(&self, size: u32) -> Result<(), ModelError> {
        match *self {
            Self::Vit { patch, .. } if !(size as usize).is_multiple_of(patch) => {
                Err(ModelError::Range {
                    key: "pretrain.encoder.patch",
                    value: patch.to_string(),
                    allowed: "allowed are divisors of the side of the views",
                })
            }
            _ => Ok(()),
        }
    }

    /// Length of a feature.
    pub fn dim(&self) -> usize {
        match *self {
            Self::Resnet18 { width, .. } => 8 * width * Blocks::Basic.expansion(),
            Self::Resnet50 { width, .. } => 8 * width * Blocks::Bottleneck.expansion(),
            Self::Vit { dim, .. } => dim,
        }
    }

    /// Draws initial weights.
    pub fn init(&self, rng: &mut impl Rng, device: &Device) -> Encoder {
        match *self {
            Self::Resnet18 { width, stem } => {
                Encoder::ResNet(ResNet::new(Blocks::Basic, width, stem, rng, device))
            }
            Self::Resnet50 { width, stem } => {
                Encoder::ResNet(ResNet::new(Blocks::Bottleneck, width, stem, rng, device))
            }
            Self::Vit { dim, depth, heads, patch } => {
                Encoder::Vit(Vit::new([dim, depth, heads, patch], rng, device))
            }
        }
    }
}

/// A network that turns images into features.
#[derive(Module, Debug)]
pub enum Encoder {
    /// A residual network; its feature is the average pool.
    ResNet(ResNet),
    /// A vision transformer; its feature is the class token.
    Vit(Vit),
}

impl Encoder {
    /// Features after each stage, averaged over the places: of a ResNet after the first layers and each
    /// of its four stages, of a transformer the class token after each block. The last are
    /// [`forward`](Self::forward)'s.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, channels of the stage]` each
    pub fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>> {
        match self {
            Self::ResNet(net) => net.stages(images).into_iter().map(pool).collect(),
            Self::Vit(net) => net.stages(images),
        }
    }

    /// Features of normalised images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, dim]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::ResNet(net) => net.forward(images),
            Self::Vit(net) => net.forward(images),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_last_stage_is_the_output() {
        let device = Device::flex();
        let images = Tensor::random([2, 3, 16, 16], burn::tensor::Distribution::Default, &device);
        for (config, stages) in [
            (EncoderConfig::Resnet18 { width: 2, stem: Stem::Small }, 5),
            (EncoderConfig::Vit { dim: 8, depth: 3, heads: 2, patch: 4 }, 3),
        ] {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
            let encoder = config.init(&mut rng, &device).valid();
            let all = encoder.stages(images.clone());
            assert_eq!(all.len(), stages);
            let (last, output) = (all[stages - 1].clone(), encoder.forward(images.clone()));
            assert_eq!(last.into_data(), output.into_data());
            let first: Vec<f32> = all[0].clone().into_data().iter().collect();
            let second: Vec<f32> = all[1].clone().into_data().iter().collect();
            assert_ne!(first, second);
        }
    }
}
