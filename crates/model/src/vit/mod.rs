//! The vision transformer of MAE (docs/protocol.md, 2.6): the encoder with a class token, and the fixed positions; parameters are
//! named as in the official MAE.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor, s};
use rand::Rng;

use self::block::{Block, LayerNorm, layer_norm};
use self::positions::positions;
use self::resize::resized;
use crate::family::{MapHook, Network};
use ssl_backdoor_kernels as kernels;

use crate::init;

mod block;
mod foreign;
mod initial;
mod mae_decoder;
mod positions;
mod resize;
mod sizes;

pub use initial::VitInitial;
pub use mae_decoder::MaeDecoder;
pub use positions::Positions;
pub(crate) use sizes::VitSizes;

/// The patch embedding: a convolution of stride `patch`.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Projection,
}

#[derive(Module, Debug)]
struct Projection {
    /// `[dim, 3, patch, patch]`
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

/// The encoder: patches, class token, blocks, norm.
#[derive(Module, Debug)]
pub struct Vit {
    patch_embed: PatchEmbed,
    /// `[1, 1, dim]`
    cls_token: Param<Tensor<3>>,
    /// Learned positions of a square of patches, the class token's first, `[1, 1 + patches, dim]`, interpolated for other
    /// image sizes; without them, positions are sines and cosines.
    pos_embed: Option<Param<Tensor<3>>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit {
    /// Draws initial weights: Xavier-uniform layers, tokens N(0, 0.02), biases 0 except for the patch projection,
    /// whose bias is uniform in ±1/√(3 · patch²).
    fn new(sizes: &VitSizes, rng: &mut impl Rng, device: &Device) -> Self {
        let VitSizes { dim, depth, heads, patch, positions } = *sizes;
        let inputs = 3 * patch * patch;
        Self {
            patch_embed: PatchEmbed {
                proj: Projection {
                    weight: init::xavier_uniform(
                        [dim, 3, patch, patch],
                        [inputs, dim],
                        rng,
                        device,
                    ),
                    // PyTorch's default for a convolution, which the official MAE keeps.
                    bias: init::linear_uniform([dim], inputs, rng, device),
                },
            },
            cls_token: init::tokens(1, dim, rng, device),
            blocks: (0..depth).map(|_| Block::new(dim, heads, rng, device)).collect(),
            norm: layer_norm(dim, device),
            pos_embed: match positions {
                Positions::Fixed => None,
                Positions::Learned(side) => Some(init::tokens(1 + side * side, dim, rng, device)),
            },
        }
    }

    /// Class tokens of normalised images, `[batch, 3, height, width]` to `[batch, dim]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        class_tokens(self.tokens(images, None))
    }

    /// Class tokens after each block and the last norm; the last equal those of [`forward`](Self::forward).
    pub fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>> {
        let mut x = self.embedded(images, None);
        let mut stage = |block: &Block| {
            x = block.forward(x.clone());
            class_tokens(self.norm.forward(x.clone())).cast(DType::F32)
        };
        self.blocks.iter().map(&mut stage).collect()
    }

    /// All tokens after the last norm, class token first, `[batch, 1 + patches, dim]`. If `seen` is given,
    /// only these patches, the same number for each image, numbered across the batch (`image · patches +
    /// patch`).
    pub fn tokens(&self, images: Tensor<4>, seen: Option<Tensor<1, Int>>) -> Tensor<3> {
        let x = self.embedded(images, seen);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.norm.forward(x).cast(DType::F32)
    }

    /// The tokens before the first block.
    fn embedded(&self, images: Tensor<4>, seen: Option<Tensor<1, Int>>) -> Tensor<3> {
        let Projection { weight, bias } = &self.patch_embed.proj;
        let [dim, _, patch, _] = weight.dims();
        let [batch, _, height, width] = images.dims();
        let (device, precision) = (images.device(), images.dtype());
        let x = patches(images, patch);
        let [_, count, length] = x.dims();
        // A patch is flattened pixel by pixel, a convolution's weight channel by channel.
        let weight = weight.val().permute([2, 3, 1, 0]).reshape([length, dim]);
        let x = kernels::linear(x, weight, bias.val());
        // The class token's fixed position is zero.
        let class = self.cls_token.val();
        let grid = [height / patch, width / patch];
        let (positions, class) = match &self.pos_embed {
            None => (positions(grid, dim, &device).unsqueeze(), class),
            Some(learned) => {
                let learned = learned.val();
                let places = learned.dims()[1] - 1;
                let patches = learned.clone().slice(s![.., 1.., ..]).reshape([places, dim]);
                let patches = resized(patches, places.isqrt(), grid).unsqueeze();
                (patches, class + learned.slice(s![.., 0..1, ..]))
            }
        };
        let x = x + positions.cast(precision);
        let x = match seen {
            None => x,
            Some(seen) => {
                let kept = seen.dims()[0] / batch;
                x.reshape([batch * count, dim]).select(0, seen).reshape([batch, kept, dim])
            }
        };
        Tensor::cat(vec![class.cast(precision).repeat_dim(0, batch), x], 1)
    }

    /// Side of a patch in pixels.
    pub fn patch(&self) -> usize {
        self.patch_embed.proj.weight.dims()[2]
    }
}

/// The first token of each image.
fn class_tokens(tokens: Tensor<3>) -> Tensor<2> {
    let [batch, _, dim] = tokens.dims();
    tokens.slice(s![.., 0..1, ..]).reshape([batch, dim])
}

/// Cuts images into patches, row by row; within a patch, pixel by pixel with its channels together:
/// `[batch, channels, height, width]` to `[batch, patches, patch² · channels]`.
pub fn patches(images: Tensor<4>, patch: usize) -> Tensor<3> {
    let [batch, channels, height, width] = images.dims();
    let [rows, columns] = [height / patch, width / patch];
    images
        .reshape([batch, channels, rows, patch, columns, patch])
        .permute([0, 2, 4, 3, 5, 1])
        .reshape([batch, rows * columns, patch * patch * channels])
}

impl Network for Vit {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }

    fn through(&self, images: Tensor<4>, map: &mut MapHook<'_>) -> Tensor<2> {
        let [_, _, height, width] = images.dims();
        let [rows, columns] = [height, width].map(|side| side / self.patch());
        let x = self.embedded(images, None);
        let Some((last, before)) = self.blocks.split_last() else {
            return class_tokens(self.norm.forward(x).cast(DType::F32));
        };
        let x = before.iter().fold(x, |x, block| block.forward(x));
        let x = last.forward_through(x, |tokens| {
            let [batch, _, dim] = tokens.dims();
            let (class, patches) =
                (tokens.clone().slice(s![.., 0..1, ..]), tokens.slice(s![.., 1.., ..]));
            let patches = map(patches.reshape([batch, rows, columns, dim]));
            Tensor::cat(vec![class, patches.reshape([batch, rows * columns, dim])], 1)
        });
        class_tokens(self.norm.forward(x).cast(DType::F32))
    }

    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>> {
        self.stages(images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// The official MAE initialises the patch projection's weight and keeps `Conv2d`'s default bias.
    #[test]
    fn review_1_12_the_patch_projection_has_the_bias_of_a_convolution() {
        let bias = |seed| -> Vec<f32> {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let positions = Positions::Fixed;
            let sizes = VitSizes { dim: 512, depth: 1, heads: 4, patch: 4, positions };
            let net = Vit::new(&sizes, &mut rng, &Device::flex());
            net.patch_embed.proj.bias.val().into_data().try_to_vec().unwrap()
        };
        let (values, bound) = (bias(7), 1.0 / 48f32.sqrt());
        assert!(values.iter().all(|v| v.abs() <= bound));
        // Uniform: mean 0, and a standard deviation of bound / sqrt(3).
        let mean = values.iter().sum::<f32>() / 512.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 512.0;
        assert!(mean.abs() < 0.1 * bound, "{mean}");
        assert!((variance.sqrt() / (bound / 3f32.sqrt()) - 1.0).abs() < 0.1, "{variance}");
        assert_eq!(values, bias(7));
        assert_ne!(values, bias(8));
    }
}
