//! BYOL (docs/protocol.md, 2.2): from the projection of one view, a predictor learns to predict the EMA copy's
//! projection of the other view.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{ChainViews, Views};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, Mlp, l2_normalize, update_ema};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::ema::{Ema, EmaTiming};
use crate::error::PretrainError;
use crate::method::{Batch, Method, Progress, Step};
use crate::mixing::{Mix, Seen};
use crate::optimizer::OptimizerConfig;
use crate::projector::Projected;
use crate::schedule::{Schedule, at_shares, rising_momentum};
use crate::settings::{MethodSettings, check_dim, check_groups, check_momentum, groups};

/// Config of BYOL; the defaults are the protocol's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ByolConfig {
    /// EMA momentum in the first epoch; it rises to 1 along a cosine, epoch by epoch.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Hidden width of projector and predictor.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// Length of a projection.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// Groups of a batch with separate batch-norm statistics, as on several GPUs, in the encoder; a divisor of the
    /// batch. Default: 4, as the reference, if each group has 32 images or more, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub bn_groups: Option<usize>,
}

/// Number of GPUs of the reference.
const GPUS: usize = 4;

impl Default for ByolConfig {
    fn default() -> Self {
        Self { momentum: 0.99, hidden: 1024, dim: 128, bn_groups: None }
    }
}

impl MethodSettings for ByolConfig {
    fn name(&self) -> &'static str {
        "byol"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        let drops = at_shares(epochs, &[150.0 / 200.0, 175.0 / 200.0]);
        TrainConfig {
            optimizer: OptimizerConfig::Adam { betas: [0.9, 0.999] },
            weight_decay: 1e-6,
            schedule: Schedule::Steps { drops, factor: 0.2, warmup_steps: 500 },
            ..TrainConfig::sgd(epochs, 512, 2e-3)
        }
    }

    fn check(&self, train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_momentum(self.momentum)?;
        check_dim("method.hidden", self.hidden)?;
        check_dim("method.dim", self.dim)?;
        Ok(check_groups(self.bn_groups, train.batch)?)
    }

    fn bn_groups(&self, batch: usize) -> usize {
        groups(self.bn_groups, GPUS, batch)
    }

    fn mixes(&self) -> bool {
        true
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
        Ok(Arc::new(ChainViews::byol(size, train.crop, train.blurs(size))))
    }
}

/// Online network with predictor, and target network.
#[derive(Module, Debug)]
pub struct Byol {
    pub(crate) online: Projected,
    pub(crate) predictor: Mlp,
    pub(crate) target: Projected,
    momentum: f64,
    bn_groups: usize,
}

impl Byol {
    /// Both networks start with equal weights. `batch` is that of training; `device` is an autodiff device.
    pub fn new(
        method: &ByolConfig,
        encoder: &EncoderConfig,
        batch: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let ByolConfig { momentum, hidden, dim, .. } = *method;
        let bn_groups = method.bn_groups(batch);
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let widths = |width| vec![width, hidden, dim];
        let online = Projected::new(encoder, &mut rng, device, widths, true);
        let predictor = Mlp::normed(&[dim, hidden, dim], &mut rng, device);
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let target = Projected::new(encoder, &mut rng, device, widths, true).no_grad();
        Self { online, predictor, target, momentum, bn_groups }
    }

    /// The views are processed one after the other, so that each has its own batch-norm statistics. The online
    /// network sees `seen`, the target network `views`.
    fn step(&mut self, seen: [Seen; 2], views: [Tensor<4>; 2]) -> Step {
        let [first, second] = seen.each_ref().map(|seen| {
            let projected = self.online.forward(seen.images.clone(), self.bn_groups);
            l2_normalize(self.predictor.forward(projected))
        });
        let [of_first, of_second] =
            views.map(|view| l2_normalize(self.target.forward(view, self.bn_groups)).detach());
        let loss = seen[0].loss(of_second, |target| distance(first.clone(), target))
            + seen[1].loss(of_first, |target| distance(second.clone(), target));
        Step::new(loss, first)
    }

    /// `1 − (1 − τ) · ½(1 + cos(π · epoch / epochs))`: from τ to 1.
    fn momentum_at(&self, progress: &Progress) -> f64 {
        let done = progress.epoch as f64 / progress.epochs as f64;
        rising_momentum(self.momentum, done)
    }
}

impl Method for Byol {
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let views: [Tensor<4>; 2] = batch.views()?;
        Ok(self.step(views.clone().map(Seen::whole), views))
    }

    /// The online network sees both views mixed.
    fn forward_mixed(
        &mut self,
        batch: Batch,
        mixes: &[Mix],
        _progress: &Progress,
    ) -> Result<Step, PretrainError> {
        let (views, seen) = batch.mixed(mixes)?;
        Ok(self.step(seen, views))
    }

    fn after_step(self, _keys: Vec<Tensor<2>>, progress: &Progress) -> Result<Self, PretrainError> {
        let momentum = self.momentum_at(progress);
        let target = update_ema(self.target, &self.online, momentum);
        Ok(Self { target, ..self })
    }

    fn encoder(&self) -> Encoder {
        self.online.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, copy: Encoder) -> Self {
        self.online.encoder = trained;
        self.target.encoder = copy.no_grad();
        self
    }

    fn ema(&self, progress: &Progress) -> Option<Ema> {
        let momentum = self.momentum_at(progress);
        Some(Ema::new(&self.online, &self.target, momentum, EmaTiming::AfterStep))
    }
}

/// `2 − 2 · cos`, averaged over the batch: 0 to 4.
///
/// # Shapes
/// - both: `[batch, dim]`, rows of norm 1
/// - output: `[1]`
pub fn distance(predicted: Tensor<2>, wanted: Tensor<2>) -> Tensor<1> {
    (predicted * wanted).sum_dim(1).mean().mul_scalar(-2.0).add_scalar(2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::Stem;

    #[test]
    fn the_momentum_goes_from_its_start_to_one_by_epochs() {
        let encoder = EncoderConfig::Resnet18 { width: 1, stem: Stem::Small };
        let config = ByolConfig { hidden: 2, dim: 2, ..ByolConfig::default() };
        let byol = Byol::new(&config, &encoder, 8, 1, &Device::flex().autodiff());
        let at = |epoch| {
            byol.momentum_at(&Progress {
                seed: 1,
                step: 0,
                steps: 200,
                epoch,
                epochs: 200,
                seen: 0,
            })
        };
        assert!((at(0) - 0.99).abs() < 1e-12 && (at(100) - 0.995).abs() < 1e-12);
        assert!(at(199) < 1.0 && at(199) > 0.99999);
    }
}
