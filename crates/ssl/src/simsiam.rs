//! SimSiam (Chen and He, *Exploring Simple Siamese Representation Learning*, CVPR 2021): from one view's projection,
//! a predictor learns to predict the projection of the other view, through which no gradient flows.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, HeadEnd, Mlp, l2_normalize};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::learning_rate::LearningRate;
use crate::method::{Batch, Method, ONE_DIRECTION, Progress, Step};
use crate::projector::Projected;
use crate::settings::{MethodSettings, check_dim};
use crate::view_pair::ViewPair;

/// Config of SimSiam; the defaults are the paper's for ImageNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimSiamConfig {
    /// Length of a projection, and width of the inner layers of the projector.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// Layers of the projector. The paper uses 3 on ImageNet and 2 on CIFAR-10.
    #[schemars(range(min = 1, max = 16))]
    pub layers: usize,
    /// Inner width of the predictor.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// The augmentation of the views.
    pub views: ViewPair,
}

impl Default for SimSiamConfig {
    fn default() -> Self {
        Self { dim: 2048, layers: 3, hidden: 512, views: ViewPair::MocoV2 }
    }
}

impl MethodSettings for SimSiamConfig {
    fn name(&self) -> &'static str {
        "simsiam"
    }

    /// The paper's, except for the predictor's learning rate: constant in the paper's code, on the schedule here.
    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        let base = 0.05;
        TrainConfig { lr: LearningRate::Base(base), ..TrainConfig::sgd(epochs, 512, base) }
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_dim("method.dim", self.dim)?;
        check_dim("method.hidden", self.hidden)?;
        Ok(require((1..=16).contains(&self.layers), "method.layers", self.layers, "1 to 16")?)
    }

    fn accumulates(&self) -> bool {
        true
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

/// The networks of SimSiam.
#[derive(Module, Debug)]
pub struct SimSiam {
    pub(crate) network: Projected,
    pub(crate) predictor: Mlp,
}

impl SimSiam {
    /// `device` is an autodiff device.
    pub fn new(
        method: &SimSiamConfig,
        encoder: &EncoderConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let SimSiamConfig { dim, layers, hidden, .. } = *method;
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let widths = |width| [vec![width], vec![dim; layers]].concat();
        let end = HeadEnd::Standardized;
        let network = Projected::ending(encoder, &mut rng, device, widths, end);
        let predictor = Mlp::ending(&[dim, hidden, dim], HeadEnd::Biased, &mut rng, device);
        Self { network, predictor }
    }

    /// Predictions and projections of both views, rows of norm 1; each view has batch-norm statistics of its own.
    pub(crate) fn embed(&self, views: [Tensor<4>; 2]) -> [[Tensor<2>; 2]; 2] {
        let projected = views.map(|view| self.network.forward(view, 1));
        let predicted =
            projected.each_ref().map(|z| l2_normalize(self.predictor.forward(z.clone())));
        [predicted, projected.map(l2_normalize)]
    }
}

impl Method for SimSiam {
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let [predicted, projected] = self.embed(batch.views()?);
        let loss = negative_cosine(predicted.clone(), projected.map(|z| z.detach()));
        let [first, _] = predicted;
        // Predictions, not projections: the projector's last batch norm keeps projections apart even in a collapse.
        Ok(Step::new(loss, first))
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

/// `−½ cos(p₁, z₂) − ½ cos(p₂, z₁)`, averaged over the batch: −1 to 1 (equation 2 of the paper). The projections must
/// be detached: with a gradient through them the networks collapse.
///
/// # Shapes
/// - `predicted`, `projected`: `[batch, dim]` for each view, rows of norm 1
/// - output: `[1]`
pub fn negative_cosine(predicted: [Tensor<2>; 2], projected: [Tensor<2>; 2]) -> Tensor<1> {
    let ([p1, p2], [z1, z2]) = (predicted, projected);
    let cosine = |p: Tensor<2>, z: Tensor<2>| (p * z).sum_dim(1).mean();
    (cosine(p1, z2) + cosine(p2, z1)).mul_scalar(-0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::init;

    #[test]
    fn the_loss_by_hand_pairs_each_prediction_with_the_other_view() {
        let rows = |values: &[f32]| init::matrix(values.to_vec(), 2, &Device::flex());
        let [p1, p2] = [rows(&[1.0, 0.0, 0.6, 0.8]), rows(&[0.0, 1.0, 1.0, 0.0])];
        let [z1, z2] = [rows(&[0.6, 0.8, 0.0, 1.0]), rows(&[0.8, 0.6, -1.0, 0.0])];
        let loss: f32 = negative_cosine([p1, p2], [z1, z2]).into_scalar();
        // p1·z2: 0.8, −0.6; p2·z1: 0.8, 0.
        assert!((loss + 0.5 * (0.1 + 0.4)).abs() < 1e-6, "{loss}");
    }
}
