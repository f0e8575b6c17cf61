//! The same operations composed of ordinary Burn operations: for every device but the CPU, and the
//! yardstick of the tests.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation, module, s};

use crate::Norm;

pub(crate) fn conv2d(images: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let half = weight.dims()[2] / 2;
    let options = ConvOptions::new([stride, stride], [half, half], [1, 1], 1);
    let channels_first = images.permute([0, 3, 1, 2]);
    module::conv2d(channels_first, weight, None, options).permute([0, 2, 3, 1])
}

pub(crate) fn channel_statistics(images: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = images.dims();
    let rows = images.detach().reshape([batch * height * width, channels]);
    let (variance, mean) = rows.var_mean_bias(0);
    Tensor::cat(vec![mean, variance], 0)
}

pub(crate) fn norm_act(
    images: Tensor<4>,
    norm: Norm,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    let [batch, height, width, channels] = images.dims();
    let rows = images.reshape([batch * height * width, channels]);
    let (mean, variance) = if norm.of_batch {
        // Recomputed from the tracked images, so that gradients flow through the statistics.
        let (variance, mean) = rows.clone().var_mean_bias(0);
        (mean, variance)
    } else {
        (norm.statistics.clone().slice(s![0..1, ..]), norm.statistics.slice(s![1..2, ..]))
    };
    let scale = norm.weight.unsqueeze::<2>() / variance.add_scalar(norm.epsilon).sqrt();
    let y = (rows - mean) * scale + norm.bias.unsqueeze::<2>();
    let mut y = y.reshape([batch, height, width, channels]);
    if let Some(residual) = residual {
        y = y + residual;
    }
    if relu { activation::relu(y) } else { y }
}
