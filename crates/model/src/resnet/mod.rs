//! ResNet-18, 34, 50, 101 and 152 of any width, with torchvision's layout and parameter names.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, ops::PadMode};
use rand::Rng;
use ssl_backdoor_kernels as kernels;

use self::block::{Block, Blocks, Conv};
use crate::BatchNorm;
use crate::family::{MapHook, Network};

mod block;
mod foreign;
mod sizes;
mod stem;

pub(crate) use sizes::{Depth, ResNetSizes};

pub use stem::{Stem, StemShape};

/// A ResNet without its classifier.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    /// Zeros around the images, in addition to the half kernel by which every convolution is padded.
    border: usize,
    /// Whether a 3×3 max-pool of stride 2 follows.
    maxpool: bool,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
}

impl ResNet {
    /// Draws initial weights: Kaiming normal (fan-out) convolutions, batch norms at 1 and 0.
    fn new(sizes: &ResNetSizes, rng: &mut impl Rng, device: &Device) -> Self {
        let ResNetSizes { depth, width, stem } = *sizes;
        Self::of_blocks(depth.blocks(), depth.counts(), (width, stem), rng, device)
    }

    /// A network of no published depth, with `counts` basic blocks in the stages; `width` is the number of channels
    /// of the first stage. Initial weights are drawn as for the others.
    pub fn of_basic_blocks(
        counts: [usize; 4],
        (width, stem): (usize, Stem),
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        Self::of_blocks(Blocks::Basic, counts, (width, stem), rng, device)
    }

    fn of_blocks(
        blocks: Blocks,
        counts: [usize; 4],
        (width, stem): (usize, Stem),
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        let StemShape { kernel, stride, padding, maxpool } = stem.shape();
        let conv1 = Conv::new([3, width], kernel, stride, rng, device);
        let border = padding.saturating_sub(kernel / 2);
        let mut from = width;
        let mut stages = [0, 1, 2, 3].map(|stage| {
            let inner = width << stage;
            let block = |i: usize| {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let block = Block::new(blocks, [from, inner], stride, rng, device);
                from = inner * blocks.expansion();
                block
            };
            (0..counts[stage]).map(block).collect()
        });
        let [layer1, layer2, layer3, layer4] = stages.each_mut().map(std::mem::take);
        let bn1 = BatchNorm::new(width, device);
        Self { conv1, bn1, border, maxpool, layer1, layer2, layer3, layer4 }
    }

    /// Pooled features of normalised images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, 8 · width]`, with bottlenecks `[batch, 32 · width]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.first(images);
        pool(self.later().into_iter().fold(x, |x, stage| through(stage, x)))
    }

    /// The maps after the first layers (including the max-pool, if there is one) and after each of the
    /// four stages, `[batch, height, width, channels]`.
    pub fn stages(&self, images: Tensor<4>) -> [Tensor<4>; 5] {
        let first = self.first(images);
        let mut x = first.clone();
        let [second, third, fourth, fifth] = self.later().map(|stage| {
            x = through(stage, x.clone());
            x.clone()
        });
        [first, second, third, fourth, fifth]
    }

    /// The five maps that the reference probes, `[batch, channels, height, width]`: after the first ReLU, before
    /// any pooling, and after each of the four stages (docs/protocol.md, 3.4).
    pub fn maps(&self, images: Tensor<4>) -> [Tensor<4>; 5] {
        let mut maps = self.stages(images.clone());
        if self.maxpool {
            maps[0] = self.stem(images, false).0;
        }
        maps.map(|map| map.permute([0, 3, 1, 2]))
    }

    fn later(&self) -> [&[Block]; 4] {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
    }

    /// The map after the first layers, with or without the max-pool, and the statistics of its batch norm.
    fn stem(&self, images: Tensor<4>, maxpool: bool) -> (Tensor<4>, Tensor<2>) {
        // Channels last from here on: the layout of the kernels.
        let on = &images.device();
        let unit = self.conv1.with(&self.bn1, on);
        let images = match self.border {
            0 => images,
            zeros => images.pad((zeros, zeros, zeros, zeros), PadMode::Constant(0.0)),
        };
        kernels::stem(images.permute([0, 2, 3, 1]), unit, maxpool)
    }

    fn first(&self, images: Tensor<4>) -> Tensor<4> {
        let on = &images.device();
        let [batch, _, height, width] = images.dims();
        let (x, statistics) = self.stem(images, self.maxpool);
        let places = |side: usize| (side + 2 * self.border).div_ceil(self.conv1.stride);
        let count = batch * places(height) * places(width);
        self.bn1.observe(&statistics, count, on);
        x
    }
}

impl Network for ResNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward(images)
    }

    fn through(&self, images: Tensor<4>, map: &mut MapHook<'_>) -> Tensor<2> {
        let x = self.first(images);
        pool(map(self.later().into_iter().fold(x, |x, stage| through(stage, x))))
    }

    fn stages(&self, images: Tensor<4>) -> Vec<Tensor<2>> {
        self.stages(images).into_iter().map(pool).collect()
    }

    fn maps(&self, images: Tensor<4>) -> Option<[Tensor<4>; 5]> {
        Some(self.maps(images))
    }
}

fn through(stage: &[Block], x: Tensor<4>) -> Tensor<4> {
    stage.iter().fold(x, |x, block| block.forward(x))
}

/// The mean over the positions of `[batch, height, width, channels]`, in 32 bits.
fn pool(x: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = x.dims();
    x.cast(DType::F32)
        .reshape([batch, height * width, channels])
        .mean_dim(1)
        .reshape([batch, channels])
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use super::*;
    use crate::EncoderConfig;
    use crate::init;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn shapes_and_parameter_counts_are_those_of_torchvision() {
        let device = Device::flex();
        let rng = || ChaCha8Rng::seed_from_u64(1);
        let standard = EncoderConfig::Resnet18 { width: 64, stem: Stem::Imagenet };
        let net = standard.init(&mut rng(), &device);
        // torchvision's resnet18 has 11,689,512 parameters, 513,000 of them in its classifier. Here the
        // running statistics (2 × 4,800) count as parameters too.
        assert_eq!(net.num_params(), 11_689_512 - 513_000 + 2 * 4800);
        let small = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };
        let net = small.init(&mut rng(), &device);
        assert_eq!(net.forward(Tensor::zeros([2, 3, 32, 32], &device)).dims(), [2, 32]);
        assert_eq!(net.forward(Tensor::zeros([1, 3, 17, 23], &device)).dims(), [1, 32]);
        // resnet50 has 25,557,032 parameters, 2,049,000 of them in its classifier, and 26,560 batch-norm channels.
        let deep = EncoderConfig::Resnet50 { width: 64, stem: Stem::Imagenet };
        let net = deep.init(&mut rng(), &device);
        assert_eq!(net.num_params(), 25_557_032 - 2_049_000 + 2 * 26_560);
    }

    /// Moves each parameter by `step` times its own gradient.
    struct Along<'a>(&'a burn::optim::GradientsParams, f32);

    impl burn::module::ModuleMapper for Along<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.0.get::<D>(param.id) {
                None => param,
                Some(g) => param.map(|w| {
                    let moved = w.inner() + g.inner().mul_scalar(self.1);
                    Tensor::from_inner(moved).require_grad()
                }),
            }
        }
    }

    #[test]
    fn gradients_of_the_whole_network_predict_the_loss() {
        let device = Device::flex().autodiff();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let config = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };
        let net = config.init(&mut rng, &device);
        let data = |count, rng: &mut ChaCha8Rng| init::normals(count, rng);
        let tensor = |values, shape: [usize; 4]| {
            Tensor::<4>::from_data(burn::tensor::TensorData::new(values, shape), &device)
        };
        let images = tensor(data(8 * 3 * 144, &mut rng), [8, 3, 12, 12]);
        let weights = tensor(data(8 * 32, &mut rng), [8, 32, 1, 1]).reshape([8, 32]);
        let loss = |net: &crate::Encoder| (net.forward(images.clone()) * weights.clone()).mean();
        let grads = burn::optim::GradientsParams::from_grads(loss(&net).backward(), &net);
        assert_eq!(grads.len(), 60);
        let mut norm = 0.0f32;
        struct Norm<'a>(&'a burn::optim::GradientsParams, &'a mut f32);
        impl burn::module::ModuleVisitor for Norm<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if let Some(g) = self.0.get::<D>(param.id) {
                    *self.1 += g.powi_scalar(2).sum().into_scalar::<f32>();
                }
            }
        }
        net.visit(&mut Norm(&grads, &mut norm));
        let step = 1e-3;
        let at = |step| loss(&net.clone().map(&mut Along(&grads, step))).into_scalar::<f32>();
        let slope = (at(step) - at(-step)) / (2.0 * step);
        assert!((slope / norm - 1.0).abs() < 0.02, "slope {slope}, squared gradient {norm}");
    }
}
