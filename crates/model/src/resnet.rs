//! ResNet-18 of any width, with torchvision's layout and parameter names.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};
use ssl_backdoor_kernels::{self as kernels, Unit};

use crate::{BatchNorm, ModelError, init};

/// The first layers of a ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// 3×3 convolution, no pooling: for images up to 64 px.
    Small,
    /// 7×7 convolution of stride 2 and 3×3 max-pool of stride 2.
    Imagenet,
}

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
}

impl EncoderConfig {
    /// Checks the sizes.
    ///
    /// # Errors
    /// A width outside 1 to 512.
    pub fn check(&self) -> Result<(), ModelError> {
        let Self::Resnet18 { width, .. } = *self;
        if (1..=512).contains(&width) {
            return Ok(());
        }
        Err(ModelError::Range {
            key: "pretrain.encoder.width",
            value: width.to_string(),
            allowed: "allowed are 1 to 512 channels",
        })
    }

    /// Length of a feature.
    pub fn dim(&self) -> usize {
        let Self::Resnet18 { width, .. } = *self;
        8 * width
    }

    /// Draws initial weights: Kaiming normal (fan-out) convolutions, batch norms at 1 and 0.
    pub fn init(&self, rng: &mut impl Rng, device: &Device) -> ResNet {
        let Self::Resnet18 { width, stem } = *self;
        let (conv1, maxpool) = match stem {
            Stem::Small => (Conv::new([3, width], 3, 1, rng, device), false),
            Stem::Imagenet => (Conv::new([3, width], 7, 2, rng, device), true),
        };
        let bn1 = BatchNorm::new(width, device);
        let mut stage = |from: usize, to: usize, stride| {
            vec![
                BasicBlock::new([from, to], stride, rng, device),
                BasicBlock::new([to, to], 1, rng, device),
            ]
        };
        let layer1 = stage(width, width, 1);
        let layer2 = stage(width, 2 * width, 2);
        let layer3 = stage(2 * width, 4 * width, 2);
        let layer4 = stage(4 * width, 8 * width, 2);
        ResNet { conv1, bn1, maxpool, layer1, layer2, layer3, layer4 }
    }
}

/// A square convolution without bias, padded by half its kernel.
#[derive(Module, Debug)]
struct Conv {
    /// `[out, in, kernel, kernel]`
    weight: Param<Tensor<4>>,
    stride: usize,
}

impl Conv {
    fn new(
        [from, to]: [usize; 2],
        kernel: usize,
        stride: usize,
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        Self { weight: init::kaiming_normal([to, from, kernel, kernel], rng, device), stride }
    }

    /// This convolution with the batch norm behind it.
    fn with(&self, norm: &BatchNorm, on: &Device) -> Unit {
        norm.unit(self.weight.val(), self.stride, on)
    }
}

/// Two 3×3 convolutions around a shortcut.
#[derive(Module, Debug)]
struct BasicBlock {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    /// 1×1 convolution and batch norm where the shape changes (`downsample.0`, `downsample.1`).
    downsample: Option<(Conv, BatchNorm)>,
}

impl BasicBlock {
    fn new([from, to]: [usize; 2], stride: usize, rng: &mut impl Rng, device: &Device) -> Self {
        let changes = stride != 1 || from != to;
        Self {
            conv1: Conv::new([from, to], 3, stride, rng, device),
            bn1: BatchNorm::new(to, device),
            conv2: Conv::new([to, to], 3, 1, rng, device),
            bn2: BatchNorm::new(to, device),
            downsample: changes.then(|| {
                (Conv::new([from, to], 1, stride, rng, device), BatchNorm::new(to, device))
            }),
        }
    }

    /// `[batch, height, width, from]` to `[batch, height / stride, width / stride, to]`.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let on = &input.device();
        let down = self.downsample.as_ref().map(|(conv, norm)| conv.with(norm, on));
        let (first, second) = (self.conv1.with(&self.bn1, on), self.conv2.with(&self.bn2, on));
        let (output, statistics) = kernels::basic_block(input, first, second, down);
        let [batch, height, width, _] = output.dims();
        let norms =
            [Some(&self.bn1), Some(&self.bn2), self.downsample.as_ref().map(|(_, norm)| norm)];
        for (norm, statistics) in norms.into_iter().flatten().zip(&statistics) {
            norm.observe(statistics, batch * height * width, on);
        }
        output
    }
}

/// A ResNet without its classifier.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    /// Whether a 3×3 max-pool of stride 2 follows.
    maxpool: bool,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    layer4: Vec<BasicBlock>,
}

impl ResNet {
    /// Pooled features of normalised images.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, 8 · width]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        // Channels last from here on: the layout of the kernels.
        let on = &images.device();
        let x = images.permute([0, 2, 3, 1]);
        let [batch, height, width, _] = x.dims();
        let unit = self.conv1.with(&self.bn1, on);
        let (mut x, statistics) = kernels::stem(x, unit, self.maxpool);
        let stride = self.conv1.stride;
        let count = batch * height.div_ceil(stride) * width.div_ceil(stride);
        self.bn1.observe(&statistics, count, on);
        for stage in [&self.layer1, &self.layer2, &self.layer3, &self.layer4] {
            x = stage.iter().fold(x, |x, block| block.forward(x));
        }
        let [batch, height, width, channels] = x.dims();
        x.reshape([batch, height * width, channels]).mean_dim(1).reshape([batch, channels])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn shapes_and_parameter_counts_are_those_of_torchvision() {
        let device = Device::flex();
        let rng = || ChaCha8Rng::seed_from_u64(1);
        let standard = EncoderConfig::Resnet18 { width: 64, stem: Stem::Imagenet };
        let net = standard.init(&mut rng(), &device);
        // torchvision's resnet18 has 11,689,512 parameters, 513,000 of them in its classifier; the
        // running statistics (2 × 4,800) count as parameters here.
        assert_eq!(net.num_params(), 11_689_512 - 513_000 + 2 * 4800);
        let small = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };
        let net = small.init(&mut rng(), &device);
        assert_eq!(net.forward(Tensor::zeros([2, 3, 32, 32], &device)).dims(), [2, 32]);
        assert_eq!(net.forward(Tensor::zeros([1, 3, 17, 23], &device)).dims(), [1, 32]);
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
        let loss = |net: &ResNet| (net.forward(images.clone()) * weights.clone()).mean();
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
