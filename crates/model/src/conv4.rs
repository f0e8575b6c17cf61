//! Conv-4, the encoder of few-shot learning (Vinyals et al., "Matching Networks for One Shot Learning", 2016; Snell et al.,
//! "Prototypical Networks for Few-shot Learning", 2017): four blocks of a 3×3 convolution, batch norm, ReLU and a 2×2
//! max-pool. The papers use all positions of the last map as the feature. Here the feature is their average, so its
//! length does not depend on the image size.

use burn::module::{Module, Param};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{DType, Device, Tensor};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_kernels as kernels;

use crate::family::{Architecture, Arrays, Detected, Family, MapHook, Network};
use crate::found::Found;
use crate::{BatchNorm, ModelError, init, parts};

/// Number of blocks.
const BLOCKS: usize = 4;
/// Side of the smallest images in pixels; four poolings reduce them to one position.
const SMALLEST: u32 = 16;

/// The sizes of Conv-4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv4Config {
    /// Channels of each block, and length of a feature; the papers use 64.
    #[schemars(range(min = 1, max = 512))]
    pub width: usize,
}

/// Conv-4 without a classifier.
#[derive(Module, Debug)]
pub struct Conv4 {
    block: Vec<Block>,
}

#[derive(Module, Debug)]
struct Block {
    conv: Conv,
    norm: BatchNorm,
}

#[derive(Module, Debug)]
struct Conv {
    /// `[out, in, 3, 3]`; no bias, because batch norm would cancel it.
    weight: Param<Tensor<4>>,
}

impl Block {
    fn new(from: usize, to: usize, rng: &mut impl Rng, device: &Device) -> Self {
        let weight = init::kaiming_normal([to, from, 3, 3], rng, device);
        Self { conv: Conv { weight }, norm: BatchNorm::new(to, device) }
    }

    /// `[batch, from, height, width]` to `[batch, to, height / 2, width / 2]`, rounded down.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let on = &x.device();
        let [batch, _, height, width] = x.dims();
        let unit = self.norm.unit(self.conv.weight.val(), 1, on);
        let (y, statistics) = kernels::stem(x.permute([0, 2, 3, 1]), unit, false);
        self.norm.observe(&statistics, batch * height * width, on);
        max_pool2d(y.permute([0, 3, 1, 2]), MaxPoolOptions::new([2, 2]))
    }
}

impl Network for Conv4 {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        average(self.block.iter().fold(images, |x, block| block.forward(x)))
    }

    fn through(&self, images: Tensor<4>, map: &mut MapHook<'_>) -> Tensor<2> {
        let x = self.block.iter().fold(images, |x, block| block.forward(x));
        average(map(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]))
    }

    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>> {
        let mut x = images;
        let stage = |block: &Block| {
            x = block.forward(x.clone());
            average(x.clone())
        };
        self.block.iter().map(stage).collect()
    }
}

/// The mean over the positions of `[batch, channels, height, width]`, in 32 bits.
fn average(x: Tensor<4>) -> Tensor<2> {
    x.cast(DType::F32).flatten::<3>(2, 3).mean_dim(2).flatten(1, 2)
}

impl Architecture for Conv4Config {
    fn kind(&self) -> &'static str {
        "conv4"
    }

    fn check(&self) -> Result<(), ModelError> {
        match self.width {
            1..=512 => Ok(()),
            width => Err(ModelError::range("width", width, "allowed are 1 to 512 channels")),
        }
    }

    fn check_size(&self, size: u32) -> Result<(), ModelError> {
        match size {
            SMALLEST.. => Ok(()),
            _ => {
                let allowed = "its four poolings need views of at least 16 pixels a side";
                Err(ModelError::range("kind", self.kind(), allowed))
            }
        }
    }

    fn dim(&self) -> usize {
        self.width
    }

    fn stage_count(&self) -> usize {
        BLOCKS
    }

    fn arrays(&self) -> Arrays {
        let (mut all, mut from) = (Arrays::new(), 3);
        for block in 0..BLOCKS {
            all.insert(format!("block.{block}.conv.weight"), vec![self.width, from, 3, 3]);
            for part in ["weight", "bias", "running_mean", "running_var"] {
                all.insert(format!("block.{block}.norm.{part}"), vec![self.width]);
            }
            from = self.width;
        }
        all
    }

    fn inside(&self, name: &str) -> bool {
        let counter = name.ends_with("num_batches_tracked");
        name.starts_with("block.") && !counter || parts::of_backbones(name)
    }
}

impl Family for Conv4Config {
    type Network = Conv4;

    const NOUN: &'static str = "a Conv-4";
    const ANCHOR: &'static str = "block.3.conv.weight";

    fn init(&self, rng: &mut impl Rng, device: &Device) -> Conv4 {
        let mut block = |from| Block::new(from, self.width, rng, device);
        let channels = std::iter::once(3).chain(std::iter::repeat_n(self.width, BLOCKS - 1));
        Conv4 { block: channels.map(&mut block).collect() }
    }

    fn read(found: &Found<'_>) -> Result<Detected<Self>, ModelError> {
        let [width, ..] = found.axes::<4>("block.3.conv.weight")?;
        Ok(Detected { sizes: Self { width }, images: None, findings: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_papers_network_has_its_size_and_needs_sixteen_pixels() {
        let config = Conv4Config { width: 64 };
        let device = Device::flex();
        let net = config.init(&mut ChaCha8Rng::seed_from_u64(1), &device);
        // Four convolutions without bias, each with a batch norm of four vectors.
        assert_eq!(net.num_params(), 9 * 64 * (3 + 3 * 64) + 4 * 4 * 64);
        for side in [16, 28, 84] {
            assert!(config.check_size(side).is_ok());
            let images = Tensor::zeros([2, 3, side as usize, side as usize], &device);
            assert_eq!(net.forward(images).dims(), [2, 64]);
        }
        let said = config.check_size(15).unwrap_err().to_string();
        assert!(said.starts_with("kind = conv4 is out of range"), "{said}");
        for width in [0, 513] {
            let said = Conv4Config { width }.check().unwrap_err().to_string();
            assert!(said.starts_with(&format!("width = {width} is out of range")), "{said}");
        }
    }
}
