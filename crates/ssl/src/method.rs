//! What a self-supervised method is to the loop, and the table of methods.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{ChainViews, Views};
use ssl_backdoor_model::ResNet;

use crate::PretrainError;

/// Where training stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Seed of the run.
    pub seed: u64,
    /// Step, counted from the start of training.
    pub step: usize,
    /// Epoch, from 0.
    pub epoch: usize,
}

/// What a forward pass gives.
pub struct Step {
    /// Mean loss of the batch, `[1]`.
    pub loss: Tensor<1>,
    /// Keys of the batch, `[batch, dim]`, detached.
    pub keys: Tensor<2>,
}

/// A self-supervised method: the networks it trains and how a step goes.
///
/// The whole state is in the module's parameters, so a checkpoint is the module's record.
pub trait Method: Module {
    /// Before the forward pass: the EMA of MoCo v2.
    fn before_step(self, progress: &Progress) -> Self;

    /// Loss and keys of one batch; `views` holds `[batch, 3, size, size]` per view.
    fn forward(&self, views: Vec<Tensor<4>>, progress: &Progress) -> Step;

    /// After the optimiser's step: the queue.
    fn after_step(self, keys: Tensor<2>, progress: &Progress) -> Self;

    /// The network that is evaluated, without heads.
    fn encoder(&self) -> &ResNet;
}

/// The `pretrain.method` table: the model and its views together. One arm per method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MethodConfig {
    /// MoCo v2 (protocol 2.1).
    MocoV2 {
        /// Keys in the queue, a multiple of the batch.
        #[serde(default = "moco_queue")]
        queue: usize,
        /// EMA momentum of the key encoder.
        #[serde(default = "moco_momentum")]
        momentum: f64,
        /// Temperature of InfoNCE.
        #[serde(default = "moco_temperature")]
        temperature: f64,
        /// Length of a key.
        #[serde(default = "moco_dim")]
        dim: usize,
        /// Groups of a batch with batch-norm statistics of their own (the reference's two GPUs).
        #[serde(default = "one")]
        bn_groups: usize,
    },
}

fn moco_queue() -> usize {
    65_536
}
fn moco_momentum() -> f64 {
    0.999
}
fn moco_temperature() -> f64 {
    0.2
}
fn moco_dim() -> usize {
    128
}
fn one() -> usize {
    1
}

impl MethodConfig {
    /// The method's name in results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MocoV2 { .. } => "moco-v2",
        }
    }

    /// Checks the values against the batch size.
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the key.
    pub fn check(&self, batch: usize) -> Result<(), PretrainError> {
        let Self::MocoV2 { queue, momentum, temperature, dim, bn_groups } = *self;
        let range =
            |key, value: String, allowed: String| Err(PretrainError::Range { key, value, allowed });
        if queue == 0 || !queue.is_multiple_of(batch) || queue > 1 << 24 {
            let allowed = format!("a multiple of pretrain.batch = {batch}, at most 16,777,216");
            return range("pretrain.method.queue", queue.to_string(), allowed);
        }
        if !(0.0..=1.0).contains(&momentum) {
            return range("pretrain.method.momentum", momentum.to_string(), "0 to 1".into());
        }
        if !(temperature > 0.0 && temperature <= 100.0) {
            let allowed = "above 0, at most 100".into();
            return range("pretrain.method.temperature", temperature.to_string(), allowed);
        }
        if !(1..=65_536).contains(&dim) {
            return range("pretrain.method.dim", dim.to_string(), "1 to 65,536".into());
        }
        if bn_groups == 0 || !batch.is_multiple_of(bn_groups) {
            let allowed = format!("a divisor of pretrain.batch = {batch}");
            return range("pretrain.method.bn_groups", bn_groups.to_string(), allowed);
        }
        Ok(())
    }

    /// The view chain, for views of `size` pixels.
    pub fn views(&self, size: u32, crop: (f64, f64), blur: bool) -> Arc<dyn Views> {
        match self {
            Self::MocoV2 { .. } => Arc::new(ChainViews::moco(size, crop, blur)),
        }
    }
}
