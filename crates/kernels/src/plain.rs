//! The same operations composed of ordinary Burn operations: for every device but the CPU, and as the
//! reference in tests.
//!
//! Images in 16 bits (bf16) are convolved and multiplied in 16 bits, with weights rounded to them; statistics,
//! normalisation and softmax are computed in 32 bits, and weights and their gradients stay in 32 bits.

use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Tensor, activation, module, s};

use crate::layer::Unit;

fn conv2d(images: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let [out, from, kernel, _] = weight.dims();
    let [batch, height, width, channels] = images.dims();
    let groups = channels / from;
    if (kernel, stride, groups) == (1, 1, 1) {
        let rows = images.reshape([batch * height * width, from]);
        let weight = weight.reshape([out, from]).transpose();
        return rows.matmul(weight).reshape([batch, height, width, out]);
    }
    let half = kernel / 2;
    let options = ConvOptions::new([stride, stride], [half, half], [1, 1], groups);
    let channels_first = images.permute([0, 3, 1, 2]);
    module::conv2d(channels_first, weight, None, options).permute([0, 2, 3, 1])
}

/// Convolution and batch norm, with the statistics used, `[2, channels]`.
pub(crate) fn conv_norm(images: Tensor<4>, unit: Unit) -> (Tensor<4>, Tensor<2>) {
    let precision = images.dtype();
    let y = conv2d(images, unit.weight.cast(precision), unit.stride);
    let [batch, height, width, channels] = y.dims();
    let rows = y.reshape([batch * height * width, channels]).cast(DType::F32);
    let (mean, variance) = match unit.running {
        None => {
            let (variance, mean) = rows.clone().var_mean_bias(0);
            (mean, variance)
        }
        Some(running) => (running.clone().slice(s![0..1, ..]), running.slice(s![1..2, ..])),
    };
    let statistics = Tensor::cat(vec![mean.clone(), variance.clone()], 0).detach();
    let scale = unit.scale.unsqueeze::<2>() / variance.add_scalar(unit.epsilon).sqrt();
    let y = (rows - mean) * scale + unit.shift.unsqueeze::<2>();
    (y.reshape([batch, height, width, channels]).cast(precision), statistics)
}

pub(crate) fn stem(images: Tensor<4>, unit: Unit, pool: bool) -> (Tensor<4>, Tensor<2>) {
    let (y, statistics) = conv_norm(images, unit);
    let y = activation::relu(y);
    if !pool {
        return (y, statistics);
    }
    let channels_first = y.permute([0, 3, 1, 2]);
    let window = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
    (module::max_pool2d(channels_first, window).permute([0, 2, 3, 1]), statistics)
}

pub(crate) fn basic_block(
    images: Tensor<4>,
    first: Unit,
    second: Unit,
    down: Option<Unit>,
) -> (Tensor<4>, Vec<Tensor<2>>) {
    let (y, s1) = stem(images.clone(), first, false);
    let (y, s2) = conv_norm(y, second);
    let (shortcut, sd) = match down {
        None => (images, None),
        Some(down) => {
            let (y, statistics) = conv_norm(images, down);
            (y, Some(statistics))
        }
    };
    (activation::relu(y + shortcut), [s1, s2].into_iter().chain(sd).collect())
}

pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let twice_phi = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1);
    (x * twice_phi).mul_scalar(0.5)
}

/// One matrix product for the tokens of all images: one per image would be small and have its own weight gradient.
pub(crate) fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    let ([batch, tokens, dim], precision, to) = (x.dims(), x.dtype(), weight.dims()[1]);
    let rows = x.reshape([batch * tokens, dim]);
    let y = rows.matmul(weight.cast(precision)) + bias.cast(precision).unsqueeze();
    y.reshape([batch, tokens, to])
}

pub(crate) fn layer_norm(
    x: Tensor<3>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
) -> Tensor<3> {
    let precision = x.dtype();
    let x = x.cast(DType::F32);
    let (variance, mean) = x.clone().var_mean_bias(2);
    let y =
        (x - mean) / variance.add_scalar(epsilon).sqrt() * scale.unsqueeze() + shift.unsqueeze();
    y.cast(precision)
}

pub(crate) fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [batch, tokens, width] = qkv.dims();
    let dim = width / 3;
    let each = dim / heads;
    let qkv = qkv.reshape([batch, tokens, 3, heads, each]).permute([2, 0, 3, 1, 4]);
    let part = |i: usize| {
        qkv.clone().slice(s![i..i + 1, .., .., .., ..]).reshape([batch, heads, tokens, each])
    };
    let (query, key, value) = (part(0), part(1), part(2));
    let scale = (each as f64).powf(-0.5);
    let precision = query.dtype();
    let products = query.mul_scalar(scale).matmul(key.swap_dims(2, 3)).cast(DType::F32);
    let weights = activation::softmax(products, 3).cast(precision);
    weights.matmul(value).swap_dims(1, 2).reshape([batch, tokens, dim])
}
