//! Barlow Twins (Zbontar et al., ICML 2021): drives the correlation matrix of the two views' embeddings over the
//! batch towards the identity, so that features agree between views and are not redundant.

use std::sync::Arc;

use burn::module::Module;
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

/// Config of Barlow Twins; the defaults are solo-learn's for CIFAR-10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BarlowTwinsConfig {
    /// Width of the two inner layers of the projector.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// Length of an embedding.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// λ: weight of a correlation between two features, compared with that of a feature with itself.
    #[schemars(range(min = 0.0))]
    pub redundancy: f64,
    /// Factor of the whole loss.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub scale: f64,
    /// The augmentation of the views.
    pub views: ViewPair,
}

impl Default for BarlowTwinsConfig {
    fn default() -> Self {
        let views = ViewPair::Asymmetric;
        Self { hidden: 2048, dim: 2048, redundancy: 0.0051, scale: 0.1, views }
    }
}

impl MethodSettings for BarlowTwinsConfig {
    fn name(&self) -> &'static str {
        "barlow-twins"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        TrainConfig::lars(epochs, 256, 0.3)
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_dim("method.hidden", self.hidden)?;
        check_dim("method.dim", self.dim)?;
        let fits = self.redundancy >= 0.0 && self.redundancy.is_finite();
        require(fits, "method.redundancy", self.redundancy, "0 or more")?;
        let fits = self.scale > 0.0 && self.scale.is_finite();
        Ok(require(fits, "method.scale", self.scale, "above 0")?)
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

/// The network of Barlow Twins.
#[derive(Module, Debug)]
pub struct BarlowTwins {
    pub(crate) network: Projected,
    redundancy: f64,
    scale: f64,
}

impl BarlowTwins {
    /// `device` is an autodiff device.
    pub fn new(
        method: &BarlowTwinsConfig,
        encoder: &EncoderConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let BarlowTwinsConfig { hidden, dim, redundancy, scale, .. } = *method;
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let widths = |width| vec![width, hidden, hidden, dim];
        // As in the paper, a last batch norm without scale and shift standardises the embeddings for the correlation.
        let end = HeadEnd::Standardized;
        let network = Projected::ending(encoder, &mut rng, device, widths, end);
        Self { network, redundancy, scale }
    }
}

impl Method for BarlowTwins {
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let views: [Tensor<4>; 2] = batch.views()?;
        let [first, second] = views.map(|view| self.network.forward(view, 1));
        let loss = redundancy_loss(first.clone(), second, self.redundancy);
        Ok(Step::new(loss.mul_scalar(self.scale), first))
    }

    fn encoder(&self) -> Encoder {
        self.network.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.network.encoder = trained;
        self
    }

    fn least_rank(&self) -> Option<f32> {
        Some(ONE_DIRECTION)
    }
}

/// `Σᵢ (1 − Cᵢᵢ)² + λ Σᵢ Σ_{j ≠ i} Cᵢⱼ²`, where C is the correlation, over the batch, of the first view's features
/// with the second view's (equation 1 of the paper).
///
/// # Shapes
/// - `first`, `second`: `[batch, dim]`, columns of mean 0 and variance 1
/// - output: `[1]`
pub fn redundancy_loss(first: Tensor<2>, second: Tensor<2>, redundancy: f64) -> Tensor<1> {
    let [rows, dim] = first.dims();
    let identity = Tensor::eye(dim, &first.device());
    let correlation = first.transpose().matmul(second).div_scalar(rows as f64);
    let weight = identity.clone().mul_scalar(1.0 - redundancy).add_scalar(redundancy);
    ((correlation - identity).powi_scalar(2) * weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::init;

    #[test]
    fn the_loss_by_hand() {
        let rows = |values: &[f32]| init::matrix(values.to_vec(), 2, &Device::flex());
        // C = [[1, −0.5], [0, 1]]
        let first = rows(&[1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0, -1.0]);
        let second = rows(&[1.0, 1.0, -1.0, 0.0, 1.0, -3.0, -1.0, 0.0]);
        let correlation = first.clone().transpose().matmul(second.clone()).div_scalar(4.0);
        let c: Vec<f32> = correlation.into_data().iter::<f32>().collect();
        assert_eq!(c, [1.0, -0.5, 0.0, 1.0]);
        let loss: f32 = redundancy_loss(first, second, 0.1).into_scalar();
        assert!((loss - 0.1 * 0.25).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn equal_standardised_views_of_independent_features_cost_nothing_and_repeated_features_do() {
        let rows = |values: &[f32]| init::matrix(values.to_vec(), 2, &Device::flex());
        let loss = |x: Tensor<2>| redundancy_loss(x.clone(), x, 0.3).into_scalar::<f32>();
        assert_eq!(loss(rows(&[1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0])), 0.0);
        // Two off-diagonal correlations of 1.
        let repeated = loss(rows(&[1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0]));
        assert!((repeated - 0.6).abs() < 1e-6, "{repeated}");
    }
}
