//! Projection and prediction heads.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use rand::Rng;

use crate::{BatchNorm, init};

/// Linear layers with ReLU between them, and with or without batch norm before each ReLU: the heads
/// of MoCo v2 (without), BYOL and MSF (with; protocol 2.1 to 2.3), and the classifiers of Jigsaw and
/// RotNet (one layer).
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    /// One behind each layer but the last, or none.
    norms: Vec<BatchNorm>,
}

impl Mlp {
    /// One layer from each width to the next, with PyTorch's default initial weights. Fewer than two widths make a
    /// head without layers, which leaves its input as it is.
    pub fn new(widths: &[usize], rng: &mut impl Rng, device: &Device) -> Self {
        let layer = |pair: &[usize]| {
            let mut linear = LinearConfig::new(pair[0], pair[1]).init(device);
            linear.weight = init::linear_uniform([pair[0], pair[1]], pair[0], rng, device);
            linear.bias = Some(init::linear_uniform([pair[1]], pair[0], rng, device));
            linear
        };
        Self { layers: widths.windows(2).map(layer).collect(), norms: Vec::new() }
    }

    /// The same with batch norm before each ReLU.
    pub fn normed(widths: &[usize], rng: &mut impl Rng, device: &Device) -> Self {
        let inner = widths.get(1..widths.len().saturating_sub(1)).unwrap_or_default();
        let norms = inner.iter().map(|&width| BatchNorm::new(width, device)).collect();
        Self { norms, ..Self::new(widths, rng, device) }
    }

    /// `[batch, first width]` to `[batch, last width]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        (1..).zip(&self.layers).fold(x, |x, (i, layer)| {
            let x = layer.forward(x);
            if i == self.layers.len() {
                return x;
            }
            relu(match self.norms.get(i - 1) {
                Some(norm) => norm.forward(x),
                None => x,
            })
        })
    }
}

/// Divides each row by its L2 norm (at least 1e-12, as PyTorch's `normalize`).
pub fn l2_normalize(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    #[test]
    fn review_2_06_a_head_of_too_few_widths_changes_nothing() {
        use rand::SeedableRng;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let device = Device::flex();
        let x = Tensor::<2>::from_data(TensorData::new(vec![3.0f32, -4.0], [1, 2]), &device);
        for widths in [[].as_slice(), &[2]] {
            let (plain, normed) =
                (Mlp::new(widths, &mut rng, &device), Mlp::normed(widths, &mut rng, &device));
            for head in [plain, normed] {
                assert_eq!(head.forward(x.clone()).into_data(), x.to_data());
            }
        }
    }

    #[test]
    fn rows_get_norm_one() {
        let x = TensorData::new(vec![3.0f32, 4.0, 0.0, 0.0], [2, 2]);
        let y = l2_normalize(Tensor::from_data(x, &Device::flex()));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.6, 0.8, 0.0, 0.0]);
    }
}
