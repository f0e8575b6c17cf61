//! A RegNetY's block: 1×1, grouped 3×3 and 1×1 convolutions with squeeze-excitation, around a shortcut.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, activation};
use rand::Rng;
use ssl_backdoor_kernels as kernels;

use super::sizes::squeezed;
use crate::{BatchNorm, init};

/// A square convolution without bias, padded by half its kernel.
#[derive(Module, Debug)]
pub(super) struct Conv {
    /// `[out, in / groups, kernel, kernel]`
    weight: Param<Tensor<4>>,
    pub stride: usize,
}

impl Conv {
    /// Draws weights from N(0, 2 / (kernel² · out)), with or without groups, as torchvision does.
    pub fn new(
        [from, to]: [usize; 2],
        kernel: usize,
        stride: usize,
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        Self { weight: init::kaiming_normal([to, from, kernel, kernel], rng, device), stride }
    }
}

/// A convolution and its batch norm, numbers 0 and 1 of a `Sequential`.
pub(super) type ConvNorm = (Conv, BatchNorm);

/// Applies a convolution, its batch norm and, with `relu`, a ReLU to `[batch, height, width, channels]`.
pub(super) fn through((conv, norm): &ConvNorm, x: Tensor<4>, relu: bool) -> Tensor<4> {
    let on = &x.device();
    let grouped = conv.weight.dims()[1] != x.dims()[3];
    let unit = norm.unit(conv.weight.val(), conv.stride, on);
    let (y, statistics) = match (relu, grouped) {
        (true, false) => kernels::stem(x, unit, false),
        (true, true) => {
            let (y, statistics) = kernels::conv_norm(x, unit);
            (activation::relu(y), statistics)
        }
        (false, _) => kernels::conv_norm(x, unit),
    };
    let [batch, height, width, _] = y.dims();
    norm.observe(&statistics, batch * height * width, on);
    y
}

pub(super) fn conv_norm(
    [from, to]: [usize; 2],
    kernel: usize,
    stride: usize,
    rng: &mut impl Rng,
    device: &Device,
) -> ConvNorm {
    (Conv::new([from, to], kernel, stride, rng, device), BatchNorm::new(to, device))
}

/// A 1×1 convolution with a bias.
#[derive(Module, Debug)]
struct Pointwise {
    /// `[out, in, 1, 1]`
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

impl Pointwise {
    /// The weight is drawn as in [`Conv`], the bias as PyTorch's default.
    fn new(from: usize, to: usize, rng: &mut impl Rng, device: &Device) -> Self {
        let weight = init::kaiming_normal([to, from, 1, 1], rng, device);
        Self { weight, bias: init::linear_uniform([to], from, rng, device) }
    }

    /// `[batch, in]` to `[batch, out]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [to, from, ..] = self.weight.dims();
        let weight = self.weight.val().reshape([to, from]).transpose();
        x.matmul(weight) + self.bias.val().unsqueeze()
    }
}

/// Squeeze-excitation (Hu et al., CVPR 2018): scales each channel by a number from 0 to 1, computed from the means of
/// all channels.
#[derive(Module, Debug)]
struct Excitation {
    fc1: Pointwise,
    fc2: Pointwise,
}

impl Excitation {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let ([batch, _, _, channels], precision) = (x.dims(), x.dtype());
        let inner = activation::relu(self.fc1.forward(pool(x.clone())));
        let scale = activation::sigmoid(self.fc2.forward(inner));
        x * scale.reshape([batch, 1, 1, channels]).cast(precision)
    }
}

/// The residual branch, beside the shortcut.
#[derive(Module, Debug)]
struct Transform {
    a: ConvNorm,
    b: ConvNorm,
    se: Excitation,
    c: ConvNorm,
}

/// A block.
#[derive(Module, Debug)]
pub(super) struct Block {
    /// 1×1 convolution and batch norm in the first block of a stage.
    proj: Option<ConvNorm>,
    f: Transform,
}

impl Block {
    /// From `from` channels to `to`, in groups of `group`; the first block of a stage halves the map.
    pub fn new(
        [from, to]: [usize; 2],
        group: usize,
        first: bool,
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        let stride = if first { 2 } else { 1 };
        let inner = squeezed(from);
        Self {
            proj: first.then(|| conv_norm([from, to], 1, stride, rng, device)),
            f: Transform {
                a: conv_norm([from, to], 1, 1, rng, device),
                b: conv_norm([group, to], 3, stride, rng, device),
                se: Excitation {
                    fc1: Pointwise::new(to, inner, rng, device),
                    fc2: Pointwise::new(inner, to, rng, device),
                },
                c: conv_norm([to, to], 1, 1, rng, device),
            },
        }
    }

    /// `[batch, height, width, from]` to `[batch, height / stride, width / stride, to]`, rounded up.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let Transform { a, b, se, c } = &self.f;
        let x = through(b, through(a, input.clone(), true), true);
        let x = through(c, se.forward(x), false);
        let shortcut = match &self.proj {
            None => input,
            Some(proj) => through(proj, input, false),
        };
        activation::relu(x + shortcut)
    }
}

/// The mean over the positions of `[batch, height, width, channels]`, in 32 bits.
pub(super) fn pool(x: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = x.dims();
    x.cast(DType::F32)
        .reshape([batch, height * width, channels])
        .mean_dim(1)
        .reshape([batch, channels])
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::Int;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn block() -> Block {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        Block::new([128, 256], 16, true, &mut rng, &Device::flex())
    }

    fn values<const D: usize>(of: &Param<Tensor<D>>) -> Vec<f32> {
        of.val().into_data().try_to_vec().unwrap()
    }

    /// As in torchvision's `RegNet.__init__`, the fan-out ignores the groups of a convolution.
    #[test]
    fn weights_are_drawn_as_torchvision_draws_them() {
        let Block { proj, f } = block();
        let (proj, se) = (proj.unwrap().0, f.se);
        for (weight, shape, fan_out) in [
            (&f.a.0.weight, [256, 128, 1, 1], 256),
            (&f.b.0.weight, [256, 16, 3, 3], 9 * 256),
            (&f.c.0.weight, [256, 256, 1, 1], 256),
            (&proj.weight, [256, 128, 1, 1], 256),
            (&se.fc1.weight, [32, 256, 1, 1], 32),
            (&se.fc2.weight, [256, 32, 1, 1], 256),
        ] {
            assert_eq!(weight.dims(), shape);
            let values = values(weight);
            let square = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64;
            let expected = 2.0 / f64::from(fan_out);
            assert!((square / expected - 1.0).abs() < 0.05, "{shape:?}: {square}");
        }
        for (bias, inputs) in [(&se.fc1.bias, 256.0f32), (&se.fc2.bias, 32.0)] {
            let largest = values(bias).into_iter().fold(0.0, |most, v| f32::max(most, v.abs()));
            let bound = inputs.sqrt().recip();
            assert!(largest <= bound && largest > 0.8 * bound, "{largest}");
        }
    }

    #[test]
    fn a_block_in_16_bits_gives_what_it_gives_in_32() {
        let block = block().valid();
        let x = Tensor::<1, Int>::arange(0..7_680, &Device::flex())
            .float()
            .sin()
            .reshape([2, 6, 5, 128]);
        let exact = block.forward(x.clone());
        assert_eq!(exact.dims(), [2, 3, 3, 256]);
        let rough = block.forward(x.cast(DType::BF16));
        assert_eq!(rough.dtype(), DType::BF16);
        let scale: f32 = exact.clone().abs().max().into_scalar();
        let off: f32 = (rough.cast(DType::F32) - exact).abs().max().into_scalar();
        assert!(off < 0.03 * scale, "{off} of {scale}");
    }
}
