//! The encoders: which there are, and the one type that holds any of them.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::resnet::{Blocks, Layout, pool};
use crate::{ModelError, ResNet, Stem, Vit};

/// The `pretrain.encoder` table. One arm per encoder.
///
/// Of a ResNet, `width` is the inner channels of the first stage (64 is the standard network).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields of the ResNets are explained above")]
pub enum EncoderConfig {
    /// ResNet-18: 2, 2, 2, 2 basic blocks in stages of 1, 2, 4, 8 × `width` channels.
    Resnet18 { width: usize, stem: Stem },
    /// ResNet-34: 3, 4, 6, 3 basic blocks.
    Resnet34 { width: usize, stem: Stem },
    /// ResNet-50: 3, 4, 6, 3 bottlenecks in stages of 4, 8, 16, 32 × `width` channels.
    Resnet50 { width: usize, stem: Stem },
    /// ResNet-101: 3, 4, 23, 3 bottlenecks.
    Resnet101 { width: usize, stem: Stem },
    /// ResNet-152: 3, 8, 36, 3 bottlenecks.
    Resnet152 { width: usize, stem: Stem },
    /// A vision transformer with a class token, as MAE's encoder.
    Vit {
        /// Length of a token, a multiple of 4; ViT-B has 768.
        dim: usize,
        /// Blocks; ViT-B has 12.
        depth: usize,
        /// Attention heads, a divisor of `dim`; ViT-B has 12.
        heads: usize,
        /// Side of a patch in pixels; 16 at 224 px, 4 at 32 px.
        patch: usize,
        /// How a token knows its place.
        #[serde(default, skip_serializing_if = "Positions::is_fixed")]
        positions: Positions,
    },
}

/// The positions that a transformer adds to its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Sines and cosines of the row and the column, as MAE's: for every size of image.
    #[default]
    Fixed,
    /// Learnt, as in timm's networks, for a square of so many patches a side, and for no other.
    Learned(usize),
}

impl Positions {
    fn is_fixed(&self) -> bool {
        *self == Self::Fixed
    }
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
        if let Network::ResNet(Layout { width, stem, .. }) = self.network() {
            if !(1..=512).contains(&width) {
                return wrong("pretrain.encoder.width", width, "allowed are 1 to 512 channels");
            }
            if let Some((part, value, allowed)) = stem.shape().wrong() {
                let key = match part {
                    "kernel" => "pretrain.encoder.stem.custom.kernel",
                    "stride" => "pretrain.encoder.stem.custom.stride",
                    _ => "pretrain.encoder.stem.custom.padding",
                };
                return wrong(key, value, allowed);
            }
        }
        if let Self::Vit { dim, depth, heads, patch, positions } = *self {
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
            if let Positions::Learned(side) = positions
                && !(1..=256).contains(&side)
            {
                let allowed = "allowed are 1 to 256 patches a side";
                return wrong("pretrain.encoder.positions", side, allowed);
            }
        }
        Ok(())
    }

    /// Checks that images of `size` pixels fit the encoder.
    ///
    /// # Errors
    /// A patch that does not divide `size`; learned positions of another size.
    pub fn check_size(&self, size: u32) -> Result<(), ModelError> {
        let Self::Vit { patch, positions, .. } = *self else { return Ok(()) };
        let wrong = |key, value: usize, allowed| {
            Err(ModelError::Range { key, value: value.to_string(), allowed })
        };
        if !(size as usize).is_multiple_of(patch) {
            let allowed = "allowed are divisors of the side of the views";
            return wrong("pretrain.encoder.patch", patch, allowed);
        }
        match positions {
            Positions::Learned(side) if side * patch != size as usize => {
                let allowed = "learned positions fit images of so many patches a side alone";
                wrong("pretrain.encoder.positions", side, allowed)
            }
            _ => Ok(()),
        }
    }

    /// Length of a feature.
    pub fn dim(&self) -> usize {
        match self.network() {
            Network::ResNet(layout) => 8 * layout.width * layout.blocks.expansion(),
            Network::Vit { sizes: [dim, ..], .. } => dim,
        }
    }

    /// How many stages [`Encoder::stages`] has: five of a ResNet, as many as blocks of a transformer.
    pub fn stage_count(&self) -> usize {
        match *self {
            Self::Vit { depth, .. } => depth,
            _ => 5,
        }
    }

    pub(crate) fn network(&self) -> Network {
        use Blocks::{Basic, Bottleneck};
        let resnet =
            |blocks, counts, width, stem| Network::ResNet(Layout { blocks, counts, width, stem });
        match *self {
            Self::Resnet18 { width, stem } => resnet(Basic, [2, 2, 2, 2], width, stem),
            Self::Resnet34 { width, stem } => resnet(Basic, [3, 4, 6, 3], width, stem),
            Self::Resnet50 { width, stem } => resnet(Bottleneck, [3, 4, 6, 3], width, stem),
            Self::Resnet101 { width, stem } => resnet(Bottleneck, [3, 4, 23, 3], width, stem),
            Self::Resnet152 { width, stem } => resnet(Bottleneck, [3, 8, 36, 3], width, stem),
            Self::Vit { dim, depth, heads, patch, positions } => {
                Network::Vit { sizes: [dim, depth, heads, patch], positions }
            }
        }
    }

    /// The ResNets of a width and a stem, and their sizes.
    pub(crate) fn resnets(width: usize, stem: Stem) -> impl Iterator<Item = (Self, Layout)> {
        let all = [
            Self::Resnet18 { width, stem },
            Self::Resnet34 { width, stem },
            Self::Resnet50 { width, stem },
            Self::Resnet101 { width, stem },
            Self::Resnet152 { width, stem },
        ];
        all.into_iter().filter_map(|config| match config.network() {
            Network::ResNet(layout) => Some((config, layout)),
            Network::Vit { .. } => None,
        })
    }

    /// Attention heads of a transformer; none of a ResNet.
    pub fn heads(&self) -> Option<usize> {
        match *self {
            Self::Vit { heads, .. } => Some(heads),
            _ => None,
        }
    }

    /// The stem of a ResNet; none of a transformer.
    pub fn stem(&self) -> Option<Stem> {
        match self.network() {
            Network::ResNet(layout) => Some(layout.stem),
            Network::Vit { .. } => None,
        }
    }

    /// Draws initial weights.
    pub fn init(&self, rng: &mut impl Rng, device: &Device) -> Encoder {
        match self.network() {
            Network::ResNet(layout) => Encoder::ResNet(ResNet::new(layout, rng, device)),
            Network::Vit { sizes, positions } => {
                Encoder::Vit(Vit::new(sizes, positions, rng, device))
            }
        }
    }
}

/// The two families.
pub(crate) enum Network {
    ResNet(Layout),
    /// Token length, blocks, heads, side of a patch.
    Vit {
        sizes: [usize; 4],
        positions: Positions,
    },
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
            (
                EncoderConfig::Vit {
                    dim: 8,
                    depth: 3,
                    heads: 2,
                    patch: 4,
                    positions: Positions::Fixed,
                },
                3,
            ),
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
