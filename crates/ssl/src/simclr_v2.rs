//! SimCLR v2 (Chen et al., NeurIPS 2020): SimCLR with a deeper head, whose first layer is kept for fine-tuning.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, HeadEnd, LarsConfig, Mlp, l2_normalize};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::method::{Batch, Method, Progress, Step};
use crate::optimizer::OptimizerConfig;
use crate::projector::Projected;
use crate::schedule::Schedule;
use crate::settings::{MethodSettings, check_dim, check_temperature};
use crate::simclr::nt_xent;
use crate::view_pair::ViewPair;

/// Config of SimCLR v2; the defaults are the official code's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimclrV2Config {
    /// Temperature of NT-Xent.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Width of the two inner layers of the head. Default: the length of a feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: Option<usize>,
    /// Length of a projection.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// The augmentation of the views.
    pub views: ViewPair,
}

impl Default for SimclrV2Config {
    fn default() -> Self {
        Self { temperature: 0.1, hidden: None, dim: 128, views: ViewPair::Simclr }
    }
}

impl MethodSettings for SimclrV2Config {
    fn name(&self) -> &'static str {
        "simclr-v2"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        TrainConfig {
            optimizer: OptimizerConfig::Lars(LarsConfig {
                norm_of_sum: true,
                lr_in_momentum: true,
                ..LarsConfig::new(0.001, false)
            }),
            schedule: Schedule::warmed_cosine(epochs, 10.0 / 800.0),
            ..TrainConfig::lars(epochs, 4096, 0.3)
        }
    }

    fn check(&self, _train: &TrainConfig, encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_temperature(self.temperature)?;
        check_dim("method.hidden", self.hidden.unwrap_or(encoder.dim()))?;
        Ok(check_dim("method.dim", self.dim)?)
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

/// The network of SimCLR v2.
#[derive(Module, Debug)]
pub struct SimclrV2 {
    pub(crate) network: Projected,
    pub(crate) temperature: f64,
    /// Images in a step.
    batch: usize,
}

impl SimclrV2 {
    /// `batch` is that of training; `device` is an autodiff device.
    pub fn new(
        method: &SimclrV2Config,
        encoder: &EncoderConfig,
        batch: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let SimclrV2Config { temperature, hidden, dim, .. } = *method;
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let widths = |width| {
            let hidden = hidden.unwrap_or(width);
            vec![width, hidden, hidden, dim]
        };
        let network = Projected::ending(encoder, &mut rng, device, widths, HeadEnd::Scaled);
        Self { network, temperature, batch }
    }

    /// Projections of all first and then all second views, rows of norm 1; they share their batch-norm statistics.
    pub(crate) fn embed(&self, views: [Tensor<4>; 2]) -> Tensor<2> {
        l2_normalize(self.network.forward(Tensor::cat(views.to_vec(), 0), 1))
    }
}

impl Method for SimclrV2 {
    /// Both directions of NT-Xent are added, not averaged.
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let embeddings = self.embed(batch.views()?);
        let loss = nt_xent(embeddings.clone(), self.temperature).mul_scalar(2.0);
        Ok(Step::new(loss, embeddings))
    }

    fn encoder(&self) -> Encoder {
        self.network.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.network.encoder = trained;
        self
    }

    /// The first layer, as the official code fine-tunes it (`ft_proj_selector` 1).
    fn kept_head(&self) -> Option<Mlp> {
        Some(self.network.head.first(1))
    }

    fn random_guess_loss(&self) -> Option<f64> {
        Some(2.0 * (2.0 * self.batch as f64 - 1.0).ln())
    }
}
