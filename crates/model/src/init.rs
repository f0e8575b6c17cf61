//! Initial weights, drawn on the host.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, RngExt};

/// A parameter with these values; it tracks gradients on an autodiff device.
fn param<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    let tracked = device.is_autodiff();
    Param::initialized(ParamId::new(), if tracked { tensor.require_grad() } else { tensor })
}

/// `count` standard normal draws (Box–Muller).
pub fn normals(count: usize, rng: &mut impl Rng) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 − u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    values
}

/// A convolution's weight `[out, in, kernel, kernel]`: Kaiming normal, fan-out, gain √2, as in
/// torchvision's ResNet.
pub fn kaiming_normal(shape: [usize; 4], rng: &mut impl Rng, device: &Device) -> Param<Tensor<4>> {
    let fan_out = shape[0] * shape[2] * shape[3];
    let std = (2.0 / fan_out as f64).sqrt() as f32;
    let values = normals(shape.iter().product(), rng).into_iter().map(|v| v * std).collect();
    param(values, shape, device)
}

/// A linear layer's weight or bias: uniform in ±1/√fan_in, PyTorch's default.
pub fn linear_uniform<const D: usize>(
    shape: [usize; D],
    fan_in: usize,
    rng: &mut impl Rng,
    device: &Device,
) -> Param<Tensor<D>> {
    let bound = 1.0 / (fan_in as f32).sqrt();
    let count = shape.iter().product();
    let values = (0..count).map(|_| rng.random_range(-bound..=bound)).collect();
    param(values, shape, device)
}

/// A linear layer's weight: uniform in ±√(6 / (fan_in + fan_out)) (Xavier), as in MAE.
pub fn xavier_uniform<const D: usize>(
    shape: [usize; D],
    fans: [usize; 2],
    rng: &mut impl Rng,
    device: &Device,
) -> Param<Tensor<D>> {
    let bound = (6.0 / (fans[0] + fans[1]) as f32).sqrt();
    let count = shape.iter().product();
    let values = (0..count).map(|_| rng.random_range(-bound..=bound)).collect();
    param(values, shape, device)
}

/// Normal with mean 0 and standard deviation `deviation`.
pub fn normal<const D: usize>(
    shape: [usize; D],
    deviation: f32,
    rng: &mut impl Rng,
    device: &Device,
) -> Param<Tensor<D>> {
    let count = shape.iter().product();
    param(normals(count, rng).into_iter().map(|v| deviation * v).collect(), shape, device)
}

/// Learned tokens, `[1, count, dim]`: normal with standard deviation 0.02, as in MAE.
pub fn tokens(count: usize, dim: usize, rng: &mut impl Rng, device: &Device) -> Param<Tensor<3>> {
    normal([1, count, dim], 0.02, rng, device)
}

/// A vector filled with one value, for batch norm.
pub fn constant(value: f32, size: usize, device: &Device) -> Param<Tensor<1>> {
    param(vec![value; size], [size], device)
}

/// Rows of norm 1 in random directions, `[rows, dim]`, without gradient.
pub fn unit_rows(rows: usize, dim: usize, rng: &mut impl Rng, device: &Device) -> Tensor<2> {
    let mut values = normals(rows * dim, rng);
    for row in values.chunks_exact_mut(dim) {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|v| *v /= norm);
    }
    matrix(values, dim, device)
}

/// A matrix of these values with rows of `dim`, without gradient.
pub fn matrix(values: Vec<f32>, dim: usize, device: &Device) -> Tensor<2> {
    let rows = values.len().checked_div(dim).unwrap_or(0);
    Tensor::from_data(TensorData::new(values, [rows, dim]), device)
}
