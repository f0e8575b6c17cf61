//! RegNetY (Radosavovic et al., "Designing Network Design Spaces", CVPR 2020), the encoder of SEER (arXiv 2103.01988), with
//! torchvision's layout and names.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand::Rng;

use self::block::{Block, ConvNorm, conv_norm, pool, through};
use self::sizes::STEM;
use crate::family::{MapHook, Names, Network};

mod block;
mod foreign;
mod sizes;

pub use sizes::{RegNetConfig, RegNetShape, RegNetSize, RegNetStem};

/// A RegNetY without its classifier.
#[derive(Module, Debug)]
pub struct RegNet {
    stem: ConvNorm,
    trunk_output: Trunk,
}

#[derive(Module, Debug)]
struct Trunk {
    block1: Vec<Block>,
    block2: Vec<Block>,
    block3: Vec<Block>,
    block4: Vec<Block>,
}

impl RegNet {
    /// Draws initial weights as torchvision does: convolutions N(0, 2 / (kernel² · out)), batch norms at 1 and 0.
    fn new(config: &RegNetConfig, rng: &mut impl Rng, device: &Device) -> Self {
        let shape = config.size.shape();
        let stem = conv_norm([3, STEM], 3, config.stem.stride(), rng, device);
        let mut from = STEM;
        let mut stages = [0, 1, 2, 3].map(|stage| {
            let (to, group) = (shape.widths[stage], shape.group_of(shape.widths[stage]));
            let block = |i: usize| {
                let block = Block::new([from, to], group, i == 0, rng, device);
                from = to;
                block
            };
            (0..shape.depths[stage]).map(block).collect()
        });
        let [block1, block2, block3, block4] = stages.each_mut().map(std::mem::take);
        Self { stem, trunk_output: Trunk { block1, block2, block3, block4 } }
    }

    fn later(&self) -> [&[Block]; 4] {
        let Trunk { block1, block2, block3, block4 } = &self.trunk_output;
        [block1, block2, block3, block4]
    }

    /// The map after the first layers, `[batch, height, width, channels]`.
    fn first(&self, images: Tensor<4>) -> Tensor<4> {
        through(&self.stem, images.permute([0, 2, 3, 1]), true)
    }

    /// The maps after the first layers and each stage, `[batch, height, width, channels]`.
    fn all(&self, images: Tensor<4>) -> [Tensor<4>; 5] {
        let first = self.first(images);
        let mut x = first.clone();
        let [second, third, fourth, fifth] = self.later().map(|stage| {
            x = of_stage(stage, x.clone());
            x.clone()
        });
        [first, second, third, fourth, fifth]
    }
}

impl Network for RegNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.first(images);
        pool(self.later().into_iter().fold(x, |x, stage| of_stage(stage, x)))
    }

    fn through(&self, images: Tensor<4>, map: &mut MapHook<'_>) -> Tensor<2> {
        let x = self.first(images);
        pool(map(self.later().into_iter().fold(x, |x, stage| of_stage(stage, x))))
    }

    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>> {
        self.all(images).into_iter().map(pool).collect()
    }

    fn maps(&self, images: Tensor<4>) -> Option<[Tensor<4>; 5]> {
        Some(self.all(images).map(|map| map.permute([0, 3, 1, 2])))
    }

    /// torchvision's names of blocks contain a hyphen, which a field name cannot.
    fn names(&self) -> Option<Names> {
        Some(Names {
            to_file: [r"^trunk_output\.block(\d)\.(\d+)\.", "trunk_output.block$1.block$1-$2."],
            from_file: [r"^trunk_output\.block\d\.block(\d)-(\d+)\.", "trunk_output.block$1.$2."],
        })
    }
}

fn of_stage(stage: &[Block], x: Tensor<4>) -> Tensor<4> {
    stage.iter().fold(x, |x, block| block.forward(x))
}
