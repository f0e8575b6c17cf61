//! VICReg (Bardes, Ponce and LeCun, ICLR 2022): pulls the embeddings of two views together, while each feature keeps
//! its variance over the batch and features are not redundant.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, HeadEnd};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::method::{Batch, Method, ONE_DIRECTION, Progress, Step};
use crate::projector::Projected;
use crate::settings::{MethodSettings, check_dim};
use crate::view_pair::ViewPair;

/// Config of VICReg; the defaults are solo-learn's for CIFAR-10 but for the views, which are the paper's: solo-learn has crops
/// of 0.2 to 1 and two views that are drawn alike, without blur and with a solarisation of probability 0.1. The weights of
/// the three terms are the paper's too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VicregConfig {
    /// Width of the two inner layers of the head (the expander of the paper).
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// Length of an embedding.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// Weight of the distance between the two views.
    #[schemars(range(min = 0.0))]
    pub invariance: f64,
    /// Weight of the hinge on the standard deviations.
    #[schemars(range(min = 0.0))]
    pub variance: f64,
    /// Weight of the covariances.
    #[schemars(range(min = 0.0))]
    pub covariance: f64,
    /// The augmentation of the views.
    pub views: ViewPair,
}

impl Default for VicregConfig {
    fn default() -> Self {
        Self {
            hidden: 2048,
            dim: 2048,
            invariance: 25.0,
            variance: 25.0,
            covariance: 1.0,
            views: ViewPair::Asymmetric,
        }
    }
}

impl MethodSettings for VicregConfig {
    fn name(&self) -> &'static str {
        "vicreg"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        TrainConfig::lars(epochs, 256, 0.3)
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_dim("method.hidden", self.hidden)?;
        check_dim("method.dim", self.dim)?;
        for (field, weight) in [
            ("method.invariance", self.invariance),
            ("method.variance", self.variance),
            ("method.covariance", self.covariance),
        ] {
            require(weight >= 0.0 && weight.is_finite(), field, weight, "0 or more")?;
        }
        Ok(())
    }

    fn views(
        &self,
        train: &TrainConfig,
        _encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError> {
        Ok(self.views.views(train, size))
    }
}

/// The network of VICReg.
#[derive(Module, Debug)]
pub struct Vicreg {
    pub(crate) network: Projected,
    /// Weights of invariance, variance and covariance.
    weights: [f64; 3],
}

impl Vicreg {
    /// `device` is an autodiff device.
    pub fn new(method: &VicregConfig, encoder: &EncoderConfig, seed: u64, device: &Device) -> Self {
        let VicregConfig { hidden, dim, invariance, variance, covariance, .. } = *method;
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let widths = |width| vec![width, hidden, hidden, dim];
        let end = HeadEnd::Unbiased;
        let network = Projected::ending(encoder, &mut rng, device, widths, end);
        Self { network, weights: [invariance, variance, covariance] }
    }
}

impl Method for Vicreg {
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let views: [Tensor<4>; 2] = batch.views()?;
        let [first, second] = views.map(|view| self.network.forward(view, 1));
        let loss = variance_invariance_covariance(first.clone(), second, self.weights);
        Ok(Step::new(loss, first))
    }

    fn encoder(&self) -> Encoder {
        self.network.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.network.encoder = trained;
        self
    }

    fn least_scale(&self) -> Option<f32> {
        Some(SHRUNK)
    }

    fn least_rank(&self) -> Option<f32> {
        Some(ONE_DIRECTION)
    }
}

/// Standard deviation of the features below which the hinge, whose target is 1, has no effect. In the trainings of
/// `planted_pairs` it is 0.51 to 0.62, and 0.05 without the hinge.
const SHRUNK: f32 = 0.2;

/// `λ s(z, z′) + μ [v(z) + v(z′)] + ν [c(z) + c(z′)]` with the `weights` λ, μ, ν (equation 6 of the paper). s is the
/// mean squared difference over images and features, as in the authors' code; the paper divides only by the images. v
/// is the mean over features of `max(0, 1 − √(variance + 10⁻⁴))`, c the sum of squared covariances of different
/// features, divided by the number of features. Variances and covariances are unbiased. The authors' code halves both
/// v; the paper does not.
///
/// # Shapes
/// - `first`, `second`: `[batch, dim]`
/// - output: `[1]`
pub fn variance_invariance_covariance(
    first: Tensor<2>,
    second: Tensor<2>,
    [invariance, variance, covariance]: [f64; 3],
) -> Tensor<1> {
    let distance = (first.clone() - second.clone()).powi_scalar(2).mean();
    let of_each = [first, second].map(|z| {
        let [rows, dim] = z.dims();
        let centred = z.clone() - z.mean_dim(0);
        let over = (rows as f64 - 1.0).max(1.0);
        let matrix = centred.clone().transpose().matmul(centred.clone()).div_scalar(over);
        let variances = centred.powi_scalar(2).sum_dim(0).div_scalar(over);
        let hinge = relu(variances.clone().add_scalar(1e-4).sqrt().neg().add_scalar(1.0)).mean();
        let off = matrix.powi_scalar(2).sum() - variances.powi_scalar(2).sum();
        hinge.mul_scalar(variance) + off.div_scalar(dim as f64).mul_scalar(covariance)
    });
    let [of_first, of_second] = of_each;
    distance.mul_scalar(invariance) + of_first + of_second
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::init;

    fn rows(values: &[f32]) -> Tensor<2> {
        init::matrix(values.to_vec(), 2, &Device::flex())
    }

    #[test]
    fn each_term_by_hand() {
        // Columns 0, 1, 2 and 0, 0.5, 1: variances 1 and 0.25, covariance 0.5.
        let first = rows(&[0.0, 0.0, 1.0, 0.5, 2.0, 1.0]);
        // Columns 0, 0, 3 and 1, 1, 1: variances 3 and 0.
        let second = rows(&[0.0, 1.0, 0.0, 1.0, 3.0, 1.0]);
        let term = |weights| {
            let loss = variance_invariance_covariance(first.clone(), second.clone(), weights);
            f64::from(loss.into_scalar::<f32>())
        };
        let squares = 0.0 + 1.0 + 1.0 + 0.25 + 1.0 + 0.0;
        assert!((term([1.0, 0.0, 0.0]) - squares / 6.0).abs() < 1e-6);
        let hinges = [(1.0 - 0.2501f64.sqrt()) / 2.0, (1.0 - 0.0001f64.sqrt()) / 2.0];
        assert!((term([0.0, 1.0, 0.0]) - hinges.iter().sum::<f64>()).abs() < 1e-6);
        assert!((term([0.0, 0.0, 1.0]) - 2.0 * 0.25 / 2.0).abs() < 1e-6);
        let all = 2.0 * squares / 6.0 + 3.0 * hinges.iter().sum::<f64>() + 4.0 * 0.25;
        assert!((term([2.0, 3.0, 4.0]) - all).abs() < 1e-5);
    }
}
