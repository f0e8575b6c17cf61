//! Projection and prediction heads.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use rand::Rng;

use crate::{BatchNorm, init};

/// Linear layers with ReLU between them, optionally with batch norm before each ReLU: the heads of
/// MoCo v2 (without), BYOL and MSF (with; docs/protocol.md, 2.1 to 2.3), and the classifiers of Jigsaw and
/// RotNet (one layer).
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    /// One after each layer, one after each but the last, or none.
    norms: Vec<BatchNorm>,
}

/// The last layer of a head whose inner layers have batch norm and no biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadEnd {
    /// A linear layer with a bias.
    Biased,
    /// A linear layer without a bias.
    Unbiased,
    /// A linear layer without a bias, and batch norm without scale and shift.
    Standardized,
    /// A linear layer without a bias, and batch norm with a scale but no shift.
    Scaled,
}

impl Mlp {
    /// One layer from each width to the next, with PyTorch's default initial weights. With fewer than two widths the
    /// head has no layers and returns its input unchanged.
    pub fn new(widths: &[usize], rng: &mut impl Rng, device: &Device) -> Self {
        let layer = |pair: &[usize]| {
            let mut linear = LinearConfig::new(pair[0], pair[1]).init(device);
            linear.weight = init::linear_uniform([pair[0], pair[1]], pair[0], rng, device);
            linear.bias = Some(init::linear_uniform([pair[1]], pair[0], rng, device));
            linear
        };
        Self { layers: widths.windows(2).map(layer).collect(), norms: Vec::new() }
    }

    /// Like [`new`](Self::new), with batch norm before each ReLU.
    pub fn normed(widths: &[usize], rng: &mut impl Rng, device: &Device) -> Self {
        let inner = widths.get(1..widths.len().saturating_sub(1)).unwrap_or_default();
        let norms = inner.iter().map(|&width| BatchNorm::new(width, device)).collect();
        Self { norms, ..Self::new(widths, rng, device) }
    }

    /// Like [`normed`](Self::normed), without a bias where batch norm follows, and with this `end`.
    pub fn ending(widths: &[usize], end: HeadEnd, rng: &mut impl Rng, device: &Device) -> Self {
        let mut head = Self::normed(widths, rng, device);
        let count = head.layers.len();
        let biased = usize::from(end == HeadEnd::Biased).min(count);
        head.layers[..count - biased].iter_mut().for_each(|layer| layer.bias = None);
        let last = widths.last().filter(|_| count > 0);
        if let (Some(&width), HeadEnd::Standardized | HeadEnd::Scaled) = (last, end) {
            let norm = BatchNorm::new(width, device).without_shift();
            head.norms.push(if end == HeadEnd::Scaled { norm } else { norm.without_scale() });
        }
        head
    }

    /// The first `layers` layers, each with its batch norm; no ReLU follows the last of them. Parameters and running
    /// statistics are shared with this head.
    pub fn first(&self, layers: usize) -> Self {
        let of = |count: usize| layers.min(count);
        let (layers, norms) = (of(self.layers.len()), of(self.norms.len()));
        Self { layers: self.layers[..layers].to_vec(), norms: self.norms[..norms].to_vec() }
    }

    /// Length of the output; `None` without layers.
    pub fn width(&self) -> Option<usize> {
        self.layers.last().map(|layer| layer.weight.dims()[1])
    }

    /// `[batch, first width]` to `[batch, last width]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        (1..).zip(&self.layers).fold(x, |x, (i, layer)| {
            let x = layer.forward(x);
            let x = match self.norms.get(i - 1) {
                Some(norm) => norm.forward(x),
                None => x,
            };
            if i == self.layers.len() { x } else { relu(x) }
        })
    }
}

/// Divides each row by its L2 norm (at least 1e-12, as in PyTorch's `normalize`).
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

    /// A last batch norm gives columns of mean 0 and variance 1, and the scale or shift that it lacks does not learn.
    #[test]
    fn a_standardized_end_has_no_parameters_and_no_head_has_idle_biases() {
        use burn::optim::GradientsParams;
        use rand::SeedableRng;
        let device = Device::flex().autodiff();
        for (end, biases, norms, learn) in [
            (HeadEnd::Biased, 1, 1, 2 + 2 + 1),
            (HeadEnd::Unbiased, 0, 1, 2 + 2),
            (HeadEnd::Standardized, 0, 2, 2 + 2),
            (HeadEnd::Scaled, 0, 2, 2 + 2 + 1),
        ] {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
            let head = Mlp::ending(&[3, 5, 4], end, &mut rng, &device);
            let found = head.layers.iter().filter(|layer| layer.bias.is_some()).count();
            assert_eq!((found, head.norms.len()), (biases, norms), "{end:?}");
            let x: Vec<f32> = (0..18).map(|i| (i * 7 % 11) as f32 - 0.3 * i as f32).collect();
            let x = Tensor::<2>::from_data(TensorData::new(x, [6, 3]), &device);
            let y = head.forward(x);
            let grads = y.clone().powi_scalar(3).sum().backward();
            assert_eq!(GradientsParams::from_grads(grads, &head).len(), learn, "{end:?}");
            if norms == 2 {
                let (variance, mean) = y.inner().var_mean_bias(0);
                let off = mean.abs() + variance.sub_scalar(1.0).abs();
                assert!(off.max().into_scalar::<f32>() < 1e-3, "{end:?}");
            }
        }
    }

    #[test]
    fn the_first_layers_are_the_head_before_its_relu() {
        use rand::SeedableRng;
        let device = Device::flex();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let head = Mlp::ending(&[3, 5, 4, 2], HeadEnd::Scaled, &mut rng, &device);
        let first = head.first(1);
        assert_eq!((first.width(), head.width(), head.first(0).width()), (Some(5), Some(2), None));
        let x = TensorData::new((0..12).map(|i| i as f32 - 6.0).collect::<Vec<_>>(), [4, 3]);
        let x = Tensor::<2>::from_data(x, &device);
        let by_hand = head.norms[0].forward(head.layers[0].forward(x.clone()));
        assert_eq!(first.forward(x.clone()).into_data(), by_hand.into_data());
        let rest = Mlp { layers: head.layers[1..].to_vec(), norms: head.norms[1..].to_vec() };
        let whole = rest.forward(relu(first.forward(x.clone())));
        assert_eq!(whole.into_data(), head.forward(x).into_data());
    }

    #[test]
    fn rows_get_norm_one() {
        let x = TensorData::new(vec![3.0f32, 4.0, 0.0, 0.0], [2, 2]);
        let y = l2_normalize(Tensor::from_data(x, &Device::flex()));
        assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.6, 0.8, 0.0, 0.0]);
    }
}
