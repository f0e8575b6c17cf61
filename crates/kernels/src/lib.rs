//! The operations that training time goes into, for images in channels-last layout
//! `[batch, height, width, channels]`: convolution, and batch norm fused with the residual addition
//! and ReLU.
//!
//! On the CPU (burn-flex) they run our own kernels through a Burn backend extension, with
//! hand-written gradients; on every other device they compose ordinary Burn operations, so the same
//! network runs everywhere. The instruction path (AVX-512, AVX2 with FMA, portable) is chosen at run
//! time; the environment variable `SSL_BACKDOOR_KERNELS` forces one of `avx512`, `avx2`, `portable`,
//! or `off` for plain Burn.
//!
//! A batch is split into chunks whose number does not depend on the threads, and sums run in chunk
//! order, so results do not depend on the number of threads either.

#[cfg(feature = "flex")]
mod conv;
#[cfg(feature = "flex")]
mod extension;
#[cfg(feature = "flex")]
mod gather;
#[cfg(feature = "flex")]
mod norm;
#[cfg(feature = "flex")]
mod path;
mod plain;
#[cfg(feature = "flex")]
mod simd;

use burn::tensor::Tensor;

/// Convolution without bias, padded by half the kernel.
///
/// # Shapes
/// - `images`: `[batch, height, width, in]`
/// - `weight`: `[out, in, kernel, kernel]`, kernel odd
/// - output: `[batch, ceil(height / stride), ceil(width / stride), out]`
///
/// # Panics
/// If the shapes do not fit.
pub fn conv2d(images: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let [out, channels, kernel, kernel_width] = weight.dims();
    assert_eq!(images.dims()[3], channels, "the weight [{out}, {channels}, ..] does not fit");
    assert!(kernel == kernel_width && kernel % 2 == 1, "the kernel is square and odd");
    assert!(stride >= 1, "the stride is at least 1");
    #[cfg(feature = "flex")]
    if extension::takes(&images.device()) {
        return extension::conv2d(images, weight, stride);
    }
    plain::conv2d(images, weight, stride)
}

/// Mean and biased variance of each channel, `[2, channels]`, without gradient.
///
/// # Shapes
/// - `images`: `[batch, height, width, channels]`
pub fn channel_statistics(images: Tensor<4>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if extension::takes(&images.device()) {
        return extension::channel_statistics(images);
    }
    plain::channel_statistics(images)
}

/// What normalises a batch: the learnt scale and shift and the statistics.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Scale, `[channels]`.
    pub weight: Tensor<1>,
    /// Shift, `[channels]`.
    pub bias: Tensor<1>,
    /// Mean and biased variance, `[2, channels]`.
    pub statistics: Tensor<2>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether the statistics are those of the batch itself (training): gradients then flow through
    /// them. Running statistics are constants.
    pub of_batch: bool,
}

/// Batch norm, then the residual addition if there is one, then ReLU if asked for, in one pass.
///
/// # Shapes
/// - `images`, `residual`, output: `[batch, height, width, channels]`
///
/// # Panics
/// If the shapes do not fit.
pub fn norm_act(
    images: Tensor<4>,
    norm: Norm,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    let channels = images.dims()[3];
    assert_eq!(norm.statistics.dims(), [2, channels], "statistics of other channels");
    assert!(norm.weight.dims() == [channels] && norm.bias.dims() == [channels]);
    if let Some(residual) = &residual {
        assert_eq!(residual.dims(), images.dims(), "the residual has another shape");
    }
    #[cfg(feature = "flex")]
    if extension::takes(&images.device()) {
        return extension::norm_act(images, norm, residual, relu);
    }
    plain::norm_act(images, norm, residual, relu)
}

#[cfg(all(test, feature = "flex"))]
mod tests;
