//! A ResNet's blocks and their convolutions, with torchvision's layout and parameter names.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, activation};
use rand::Rng;
use ssl_backdoor_kernels::{self as kernels, Unit};

use crate::{BatchNorm, init};

/// The kind of block in a ResNet's stages (He et al., 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocks {
    /// Two 3×3 convolutions (ResNet-18 and 34).
    Basic,
    /// 1×1, 3×3 and 1×1 convolutions, the last with four times the channels (ResNet-50 and deeper).
    Bottleneck,
}

impl Blocks {
    /// Ratio of a block's output channels to its inner channels.
    pub fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// A square convolution without bias, padded by half its kernel.
#[derive(Module, Debug)]
pub(super) struct Conv {
    /// `[out, in, kernel, kernel]`
    weight: Param<Tensor<4>>,
    pub stride: usize,
}

impl Conv {
    pub fn new(
        [from, to]: [usize; 2],
        kernel: usize,
        stride: usize,
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        Self { weight: init::kaiming_normal([to, from, kernel, kernel], rng, device), stride }
    }

    /// The unit of this convolution and the batch norm after it.
    pub fn with(&self, norm: &BatchNorm, on: &Device) -> Unit {
        norm.unit(self.weight.val(), self.stride, on)
    }
}

/// Convolutions with a shortcut: two 3×3 ones or, with `conv3`, a bottleneck with its stride in the
/// 3×3 convolution, as in torchvision.
#[derive(Module, Debug)]
pub(super) struct Block {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Option<Conv>,
    bn3: Option<BatchNorm>,
    /// 1×1 convolution and batch norm where the shape changes (`downsample.0`, `downsample.1`).
    downsample: Option<(Conv, BatchNorm)>,
}

impl Block {
    /// A block from `from` channels to `inner` times the expansion.
    pub fn new(
        blocks: Blocks,
        [from, inner]: [usize; 2],
        stride: usize,
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        let to = inner * blocks.expansion();
        let ([kernel1, stride1], [kernel2, stride2]) = match blocks {
            Blocks::Basic => ([3, stride], [3, 1]),
            Blocks::Bottleneck => ([1, 1], [3, stride]),
        };
        let wide = blocks == Blocks::Bottleneck;
        let changes = stride != 1 || from != to;
        Self {
            conv1: Conv::new([from, inner], kernel1, stride1, rng, device),
            bn1: BatchNorm::new(inner, device),
            conv2: Conv::new([inner, inner], kernel2, stride2, rng, device),
            bn2: BatchNorm::new(inner, device),
            conv3: wide.then(|| Conv::new([inner, to], 1, 1, rng, device)),
            bn3: wide.then(|| BatchNorm::new(to, device)),
            downsample: changes.then(|| {
                (Conv::new([from, to], 1, stride, rng, device), BatchNorm::new(to, device))
            }),
        }
    }

    /// `[batch, height, width, from]` to `[batch, height / stride, width / stride, to]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match (&self.conv3, &self.bn3) {
            (Some(conv3), Some(bn3)) => self.bottleneck(input, conv3, bn3),
            _ => self.basic(input),
        }
    }

    fn basic(&self, input: Tensor<4>) -> Tensor<4> {
        let on = &input.device();
        let down = self.downsample.as_ref().map(|(conv, norm)| conv.with(norm, on));
        let (first, second) = (self.conv1.with(&self.bn1, on), self.conv2.with(&self.bn2, on));
        let (output, statistics) = kernels::basic_block(input, first, second, down);
        let norms =
            [Some(&self.bn1), Some(&self.bn2), self.downsample.as_ref().map(|(_, norm)| norm)];
        for (norm, statistics) in norms.into_iter().flatten().zip(&statistics) {
            norm.observe(statistics, pixels(&output), on);
        }
        output
    }

    fn bottleneck(&self, input: Tensor<4>, conv3: &Conv, bn3: &BatchNorm) -> Tensor<4> {
        let on = &input.device();
        let through = |x: Tensor<4>, conv: &Conv, norm: &BatchNorm, relu: bool| {
            let unit = conv.with(norm, on);
            let (y, statistics) =
                if relu { kernels::stem(x, unit, false) } else { kernels::conv_norm(x, unit) };
            norm.observe(&statistics, pixels(&y), on);
            y
        };
        let x = through(input.clone(), &self.conv1, &self.bn1, true);
        let x = through(x, &self.conv2, &self.bn2, true);
        let x = through(x, conv3, bn3, false);
        let shortcut = match &self.downsample {
            None => input,
            Some((conv, norm)) => through(input, conv, norm, false),
        };
        activation::relu(x + shortcut)
    }
}

/// Number of positions in `[batch, height, width, channels]`.
fn pixels(x: &Tensor<4>) -> usize {
    let [batch, height, width, _] = x.dims();
    batch * height * width
}
