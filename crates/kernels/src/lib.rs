#![doc = include_str!("../README.md")]

#[cfg(feature = "flex")]
mod block;
#[cfg(feature = "flex")]
mod conv;
#[cfg(feature = "flex")]
mod extension;
#[cfg(feature = "flex")]
mod fill;
#[cfg(feature = "flex")]
mod gather;
#[cfg(feature = "flex")]
mod geometry;
mod layer;
mod multiply;
#[cfg(feature = "flex")]
mod norm;
#[cfg(feature = "flex")]
mod outer;
#[cfg(feature = "flex")]
mod pairs;
#[cfg(feature = "flex")]
mod path;
mod plain;
#[cfg(feature = "flex")]
mod pool;
mod process;
#[cfg(feature = "flex")]
mod scratch;
#[cfg(feature = "flex")]
mod simd;
#[cfg(feature = "flex")]
mod stem;
#[cfg(feature = "flex")]
mod transformer;
#[cfg(feature = "flex")]
mod unit;
mod update;
#[cfg(feature = "flex")]
mod wanted;
#[cfg(feature = "flex")]
mod winograd;

use burn::tensor::{Device, Tensor};
pub use layer::Unit;
pub use multiply::multiply_in_bf16;
#[cfg(feature = "flex")]
pub use path::{
    UnknownPath, bf16_instruction_path, check_instruction_path, instruction_path, instruction_paths,
};
pub use process::{cpu_threads, keep_freed_memory, on_pool, share_out, side_by_side};
pub use update::{Sgd, ema, sgd};

/// Whether our own kernels compute with `x`: on the CPU, in 32 bits, if there is anything to compute.
#[cfg(feature = "flex")]
fn fused<const D: usize>(x: &Tensor<D>) -> bool {
    let in_32_bits = x.dtype() == burn::tensor::DType::F32;
    in_32_bits && x.dims().iter().all(|&len| len > 0) && extension::takes(&x.device())
}

/// Whether `device` is the CPU that the kernels are for, even if they are switched off.
pub fn is_cpu(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return extension::is_cpu(device);
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// Whether [`multiply_in_bf16`] has an effect on `device`: on the CPU, unless the kernels are switched off.
pub fn multiplies_in_bf16(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return extension::takes(device);
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// # Panics
/// If an axis is empty.
fn check_images([batch, height, width, channels]: [usize; 4]) {
    let some = [batch, height, width, channels].iter().all(|&len| len > 0);
    assert!(some, "images of [{batch}, {height}, {width}, {channels}]: no axis may be empty");
}

/// The stem of a ResNet: convolution, batch norm, ReLU and, with `pool`, a 3×3 max-pool of stride 2,
/// padded by 1. Also returns the mean and biased variance per channel that the batch norm used,
/// `[2, out]`, without gradient.
///
/// # Shapes
/// - `images`: `[batch, height, width, in]`
/// - output: `[batch, ceil(height / stride), ceil(width / stride), out]`, with `pool` half of that,
///   rounded up
///
/// # Panics
/// If the shapes do not fit, or an axis of the images is empty.
pub fn stem(images: Tensor<4>, unit: Unit, pool: bool) -> (Tensor<4>, Tensor<2>) {
    check_images(images.dims());
    unit.check(images.dims()[3]);
    #[cfg(feature = "flex")]
    if fused(&images) && unit.in_32_bits() {
        return extension::stem(images, unit, pool);
    }
    plain::stem(images, unit, pool)
}

/// The basic block of a ResNet (He et al., 2016): two units, the first followed by a ReLU, the sum with
/// the shortcut (the images, or the unit `down` applied to them), ReLU. Also returns the statistics of
/// the units as [`stem`] does, in the order first, second, down.
///
/// # Shapes
/// - `images`: `[batch, height, width, in]`
/// - output: `[batch, ceil(height / stride), ceil(width / stride), out]`, stride of the first unit
///
/// # Panics
/// If the shapes do not fit or an axis of the images is empty, if the second unit has a stride other than 1, if the
/// kernel of `down` is larger than that of the first unit, or if only some units have running statistics.
pub fn basic_block(
    images: Tensor<4>,
    first: Unit,
    second: Unit,
    down: Option<Unit>,
) -> (Tensor<4>, Vec<Tensor<2>>) {
    check_images(images.dims());
    let channels = images.dims()[3];
    first.check(channels);
    let out = first.scale.dims()[0];
    second.check(out);
    assert!(second.stride == 1 && second.scale.dims() == [out], "the second unit keeps the shape");
    assert_eq!(first.running.is_some(), second.running.is_some(), "statistics for all or none");
    match &down {
        None => assert!(first.stride == 1 && channels == out, "the shapes need a `down` unit"),
        Some(down) => {
            down.check(channels);
            let fits = down.stride == first.stride && down.scale.dims() == [out];
            assert!(fits, "the `down` unit must give the shape of the first two");
            assert!(down.weight.dims()[2] <= first.weight.dims()[2], "its kernel is no larger");
            assert_eq!(first.running.is_some(), down.running.is_some(), "for all or none");
        }
    }
    #[cfg(feature = "flex")]
    if fused(&images)
        && [Some(&first), Some(&second), down.as_ref()].into_iter().flatten().all(Unit::in_32_bits)
    {
        return extension::basic_block(images, first, second, down);
    }
    plain::basic_block(images, first, second, down)
}

/// Convolution and batch norm without ReLU, always composed of ordinary Burn operations, so that on the CPU it computes
/// in 32 bits even within [`multiply_in_bf16`]: for the last convolution of a bottleneck and its shortcut, whose 1×1
/// kernels are matrix products, and for grouped convolutions. Also returns the statistics as [`stem`] does.
///
/// # Shapes
/// - `images`: `[batch, height, width, in]`
/// - output: `[batch, ceil(height / stride), ceil(width / stride), out]`
///
/// # Panics
/// If the shapes do not fit, or an axis of the images is empty.
pub fn conv_norm(images: Tensor<4>, unit: Unit) -> (Tensor<4>, Tensor<2>) {
    check_images(images.dims());
    unit.check_grouped(images.dims()[3]);
    plain::conv_norm(images, unit)
}

/// GELU, x · Φ(x), of each value. Its gradient is exact, while that of `burn::tensor::activation::gelu` is the
/// gradient of an approximation, off by up to 5e-4.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if fused(&x) {
        return transformer::gelu(x);
    }
    plain::gelu(x)
}

/// Layer norm over the last axis, of length `dim`.
///
/// # Panics
/// If scale and shift have another length.
pub fn layer_norm(x: Tensor<3>, scale: Tensor<1>, shift: Tensor<1>, epsilon: f64) -> Tensor<3> {
    let [_, _, dim] = x.dims();
    assert!(scale.dims() == [dim] && shift.dims() == [dim], "scale and shift have length {dim}");
    #[cfg(feature = "flex")]
    if fused(&x) && fused(&scale) && fused(&shift) {
        return transformer::layer_norm(x, scale, shift, epsilon);
    }
    plain::layer_norm(x, scale, shift, epsilon)
}

/// A linear layer on the tokens of all images: x · weight + bias. Off the CPU, it computes in the tokens' format.
///
/// # Shapes
/// - `x`: `[batch, tokens, from]`; `weight`: `[from, to]`; `bias`: `[to]`
/// - output: `[batch, tokens, to]`
///
/// # Panics
/// If the shapes do not fit.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    check_linear(&x, &weight, &bias);
    #[cfg(feature = "flex")]
    if fused(&x) && fused(&weight) && fused(&bias) {
        return transformer::linear(x, weight, bias, false);
    }
    plain::linear(x, weight, bias)
}

/// A linear layer as [`linear`], followed by [`gelu`].
///
/// # Panics
/// If the shapes do not fit.
pub fn linear_gelu(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
    check_linear(&x, &weight, &bias);
    #[cfg(feature = "flex")]
    if fused(&x) && fused(&weight) && fused(&bias) {
        return transformer::linear(x, weight, bias, true);
    }
    plain::gelu(plain::linear(x, weight, bias))
}

/// # Panics
/// If the shapes of a linear layer do not fit.
fn check_linear(x: &Tensor<3>, weight: &Tensor<2>, bias: &Tensor<1>) {
    let ([_, _, len], [from, to], [bias]) = (x.dims(), weight.dims(), bias.dims());
    assert!(
        (len, bias) == (from, to),
        "the weight [{from}, {to}] does not fit {len} values and a bias of {bias}"
    );
}

/// Attention with `heads` heads, each of length `each`: softmax(q · kᵀ / √each) · v.
///
/// # Shapes
/// - `qkv`: `[batch, tokens, 3 · dim]`, queries, keys and values side by side, each one head after another
/// - output: `[batch, tokens, dim]`
///
/// # Panics
/// If the width is not three times a multiple of `heads`.
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let width = qkv.dims()[2];
    assert!(heads > 0 && width.is_multiple_of(3 * heads), "{width} is not 3 · {heads} · each");
    #[cfg(feature = "flex")]
    if fused(&qkv) {
        return transformer::attention(qkv, heads);
    }
    plain::attention(qkv, heads)
}

#[cfg(all(test, feature = "flex"))]
mod rounding;
#[cfg(all(test, feature = "flex"))]
mod sound;
#[cfg(all(test, feature = "flex"))]
mod tests;
