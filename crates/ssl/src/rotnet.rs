//! RotNet (docs/protocol.md, 2.5): predicts by how many quarter turns an image was rotated.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{Chain, RotNetViews, Views};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, Mlp};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::loss::{accuracy, cross_entropy, indices};
use crate::method::{Batch, Method, Progress, Step};
use crate::schedule::{Schedule, at_shares};
use crate::settings::MethodSettings;

/// Quarter turns in a full turn.
const TURNS: usize = 4;

/// `pretrain.method` of RotNet, which has nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotNetConfig {}

impl MethodSettings for RotNetConfig {
    fn name(&self) -> &'static str {
        "rotnet"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        let drops = at_shares(epochs, &[30.0, 60.0, 90.0].map(|epoch| epoch / 105.0));
        let schedule = Schedule::Steps { drops, factor: 0.1, warmup_steps: 0 };
        let (drop_last, crop) = (Some(false), (0.08, 1.0));
        TrainConfig { schedule, drop_last, crop, ..TrainConfig::sgd(epochs, 128, 0.05) }
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        Ok(())
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
        Ok(Arc::new(RotNetViews { chain: Chain::weak(size, train.crop) }))
    }
}

/// An encoder and a classifier for the four rotations.
#[derive(Module, Debug)]
pub struct RotNet {
    pub(crate) encoder: Encoder,
    pub(crate) head: Mlp,
}

impl RotNet {
    /// `device` is an autodiff device.
    pub fn new(encoder: &EncoderConfig, seed: u64, device: &Device) -> Self {
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let net = encoder.init(&mut rng, device);
        Self { encoder: net, head: Mlp::new(&[encoder.dim(), TURNS], &mut rng, device) }
    }
}

impl Method for RotNet {
    /// The four rotations of all images form one batch.
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let views: [Tensor<4>; TURNS] = batch.views()?;
        let (images, device) = (views[0].dims()[0], views[0].device());
        let features = self.encoder.forward(Tensor::cat(views.to_vec(), 0));
        let logits = self.head.forward(features.clone());
        let labels = (0..TURNS as i64).flat_map(|turn| vec![turn; images]).collect();
        let labels = indices(labels, &device);
        let loss = cross_entropy(logits.clone(), labels.clone());
        Ok(Step { accuracy: Some(accuracy(logits, labels)), ..Step::new(loss, features) })
    }

    fn encoder(&self) -> Encoder {
        self.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.encoder = trained;
        self
    }

    fn random_guess_loss(&self) -> Option<f64> {
        Some((TURNS as f64).ln())
    }
}
