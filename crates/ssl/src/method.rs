//! What a self-supervised method is to the loop, and the table of methods.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_model::{Encoder, KeyQueue};

use crate::canary::Ema;
use crate::learning_rate::LearningRate;
use crate::optimizer::{Decayed, OptimizerConfig};
use crate::schedule::Schedule;
use crate::{
    Byol, ByolConfig, Jigsaw, JigsawConfig, Mae, MaeConfig, Moco, MocoConfig, Msf, MsfConfig,
    PretrainConfig, PretrainError, RotNet, RotNetConfig, Simclr, SimclrConfig,
};

/// Where training stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Seed of the run.
    pub seed: u64,
    /// Step, counted from the start of training.
    pub step: usize,
    /// Epoch, from 0.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Images that the steps before this one took together: where a queue of keys stands.
    pub seen: usize,
}

/// What a step trains on.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[batch, 3, size, size]` per view.
    pub views: Vec<Tensor<4>>,
    /// The images, in the batch's order.
    pub ids: Vec<u64>,
    /// Patches hidden from the encoder by image, if the views hide any (MAE).
    pub hidden: Vec<Vec<bool>>,
}

impl Batch {
    /// The views of a method that takes `N` of them.
    pub(crate) fn views<const N: usize>(&self) -> [Tensor<4>; N] {
        let Ok(views) = <[Tensor<4>; N]>::try_from(self.views.clone()) else {
            unreachable!("the loader makes as many views as the method's `Views` say")
        };
        views
    }
}

/// What a forward pass gives.
pub struct Step {
    /// Mean loss of the batch, `[1]`.
    pub loss: Tensor<1>,
    /// What enters each of the queues after the step, `[batch, dim]`, detached.
    pub keys: Vec<Tensor<2>>,
    /// The rows that the first of `keys` were told from: they must not be among them.
    pub negatives: Option<Tensor<2>>,
    /// What the loss looks at, `[rows, dim]`, detached: if all rows are alike, training collapsed.
    pub embeddings: Tensor<2>,
    /// Share of right answers of a pretext task, `[1]`.
    pub accuracy: Option<Tensor<1>>,
}

impl Step {
    /// A step that keeps no keys.
    pub fn new(loss: Tensor<1>, embeddings: Tensor<2>) -> Self {
        let embeddings = embeddings.detach();
        Self { loss, keys: Vec::new(), negatives: None, embeddings, accuracy: None }
    }
}

/// Share of rows of `logits` (`[rows, classes]`) whose largest entry is the class of `labels`.
pub(crate) fn accuracy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let rows = logits.dims()[0];
    logits.argmax(1).reshape([rows]).equal(labels).float().mean()
}

/// A self-supervised method: the networks it trains and how a step goes.
///
/// The whole state is in the module's parameters, so a checkpoint is the module's record.
pub trait Method: Module {
    /// Before the forward pass: the EMA of MoCo v2 and MSF.
    fn before_step(self, _progress: &Progress) -> Self {
        self
    }

    /// Loss and keys of one batch. MSF enqueues inside.
    fn forward(&mut self, batch: Batch, progress: &Progress) -> Step;

    /// After the optimiser's step: the queue of MoCo v2, the EMA of BYOL.
    fn after_step(self, _keys: Vec<Tensor<2>>, _progress: &Progress) -> Self {
        self
    }

    /// The network that is evaluated, without heads.
    fn encoder(&self) -> Encoder;

    /// The same method with other first weights: `trained` is the network that learns, `copy` the same weights for
    /// its EMA copy, where there is one.
    fn start_from(self, trained: Encoder, copy: Encoder) -> Self;

    /// The loss of a network that knows nothing, if the task has such a level.
    fn chance(&self) -> Option<f64> {
        None
    }

    /// The queues of keys.
    fn queues(&self) -> Vec<&KeyQueue> {
        Vec::new()
    }

    /// Target and online network of the EMA, for the canary that watches it.
    fn ema(&self, _progress: &Progress) -> Option<Ema> {
        None
    }
}

/// What the protocol says of a method's training; each can be set in `[pretrain]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Images in a step.
    pub batch: usize,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Learning rate before the schedule.
    pub lr: LearningRate,
    /// Weight decay.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decayed: Decayed,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// Share of the area that a crop takes, low and high.
    pub crop: (f64, f64),
    /// Are the images left out that fill no whole batch at the end of an epoch?
    pub drop_last: bool,
}

impl Defaults {
    /// What most references share: SGD with momentum 0.9, decay 1e-4 on all parameters, a cosine per
    /// epoch, crops of 0.2 to 1.
    pub fn sgd(batch: usize, lr: f64) -> Self {
        Self {
            batch,
            optimizer: OptimizerConfig::sgd(),
            lr: LearningRate::Fixed(lr),
            weight_decay: 1e-4,
            decayed: Decayed::All,
            schedule: Schedule::CosinePerEpoch,
            crop: (0.2, 1.0),
            drop_last: true,
        }
    }
}

/// The config of one method.
pub trait Settings {
    /// The method's name in configs and results.
    fn name(&self) -> &'static str;

    /// What the protocol says, for a training of `epochs`.
    fn defaults(&self, epochs: usize) -> Defaults;

    /// Checks the method's own values.
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the key.
    fn check(&self, pretrain: &PretrainConfig) -> Result<(), PretrainError>;

    /// Groups of a batch that have batch-norm statistics of their own, in a training with batches of `batch` images.
    fn bn_groups(&self, _batch: usize) -> usize {
        1
    }

    /// What the method sees of an image, for views of `size` pixels.
    fn views(&self, pretrain: &PretrainConfig, size: u32) -> Arc<dyn Views>;
}

/// The `pretrain.method` table: the model and its views together. One arm per method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MethodConfig {
    /// MoCo v2 (protocol 2.1).
    MocoV2(MocoConfig),
    /// BYOL (protocol 2.2).
    Byol(ByolConfig),
    /// MSF, mean shift (protocol 2.3).
    Msf(MsfConfig),
    /// Jigsaw puzzles (protocol 2.4).
    Jigsaw(JigsawConfig),
    /// RotNet, predicting rotations (protocol 2.5).
    Rotnet(RotNetConfig),
    /// Masked autoencoder (protocol 2.6).
    Mae(MaeConfig),
    /// SimCLR (protocol 8.5).
    Simclr(SimclrConfig),
}

impl MethodConfig {
    /// The method's settings.
    pub fn settings(&self) -> &dyn Settings {
        match self {
            Self::MocoV2(config) => config,
            Self::Byol(config) => config,
            Self::Msf(config) => config,
            Self::Jigsaw(config) => config,
            Self::Rotnet(config) => config,
            Self::Mae(config) => config,
            Self::Simclr(config) => config,
        }
    }
}

/// Work on a method, whichever it is: each is a type of its own.
pub trait WithMethod {
    /// What comes of it.
    type Output;

    /// Does the work.
    ///
    /// # Errors
    /// What goes wrong in it.
    fn on<M: Method>(self, method: M) -> Result<Self::Output, PretrainError>;
}

impl PretrainConfig {
    /// Does `work` on the configured method, its weights drawn from `seed`, on the autodiff `device`.
    ///
    /// # Errors
    /// The method does not train such an encoder; or as `work`.
    pub fn with_method<W: WithMethod>(
        &self,
        seed: u64,
        device: &Device,
        work: W,
    ) -> Result<W::Output, PretrainError> {
        let (net, batch) = (&self.encoder, self.batch);
        match &self.method {
            MethodConfig::MocoV2(own) => work.on(Moco::new(own, net, batch, seed, device)),
            MethodConfig::Byol(own) => work.on(Byol::new(own, net, batch, seed, device)),
            MethodConfig::Msf(own) => work.on(Msf::new(own, net, batch, seed, device)),
            MethodConfig::Jigsaw(own) => work.on(Jigsaw::new(own, net, seed, device)),
            MethodConfig::Rotnet(_) => work.on(RotNet::new(net, seed, device)),
            MethodConfig::Mae(own) => work.on(Mae::new(own, net, seed, device)?),
            MethodConfig::Simclr(own) => work.on(Simclr::new(own, net, batch, seed, device)),
        }
    }
}

/// [`PretrainError::Range`] unless `fits`.
pub(crate) fn require(
    fits: bool,
    key: &'static str,
    value: impl ToString,
    allowed: impl Into<String>,
) -> Result<(), PretrainError> {
    if fits {
        return Ok(());
    }
    Err(PretrainError::Range { key, value: value.to_string(), allowed: allowed.into() })
}

/// Checks what several methods have: a queue, an EMA, groups of batch norm, the length of a key.
pub(crate) fn check_queue(queue: usize, batch: usize) -> Result<(), PretrainError> {
    let fits = queue > 0 && queue.is_multiple_of(batch) && queue <= 1 << 24;
    let allowed = format!("a multiple of pretrain.batch = {batch}, at most 16,777,216");
    require(fits, "pretrain.method.queue", queue, allowed)
}

pub(crate) fn check_momentum(momentum: f64) -> Result<(), PretrainError> {
    require((0.0..=1.0).contains(&momentum), "pretrain.method.momentum", momentum, "0 to 1")
}

pub(crate) fn check_dim(key: &'static str, dim: usize) -> Result<(), PretrainError> {
    require((1..=65_536).contains(&dim), key, dim, "1 to 65,536")
}

/// Fewest images in a group of batch norm that no config asks for: on eight GPUs MoCo v2 had so many on each.
const LEAST_GROUP: usize = 32;

/// Groups of a batch with batch-norm statistics of their own: what the config asks for, or else as many as the
/// `reference` had GPUs, or 1 if the batch has no such number of equal groups of [`LEAST_GROUP`] images or more.
pub(crate) fn groups(asked: Option<usize>, reference: usize, batch: usize) -> usize {
    let fits = batch.is_multiple_of(reference) && batch / reference >= LEAST_GROUP;
    asked.unwrap_or(if fits { reference } else { 1 })
}

pub(crate) fn check_groups(groups: Option<usize>, batch: usize) -> Result<(), PretrainError> {
    let Some(groups) = groups else { return Ok(()) };
    let fits = groups > 0 && batch.is_multiple_of(groups) && batch / groups >= 2;
    let allowed =
        format!("a divisor of pretrain.batch = {batch}, with 2 images or more in a group");
    require(fits, "pretrain.method.bn_groups", groups, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn review_1_06_groups_are_the_references_where_the_batch_allows() {
        // MoCo v2 on two GPUs, BYOL and MSF on four.
        assert_eq!((groups(None, 2, 256), groups(None, 4, 512), groups(None, 4, 256)), (2, 4, 4));
        assert_eq!((groups(None, 2, 64), groups(None, 4, 128)), (2, 4));
        // Too small for groups of 32, or not divisible.
        assert_eq!((groups(None, 2, 62), groups(None, 4, 64), groups(None, 2, 101)), (1, 1, 1));
        // What is asked for is not second-guessed.
        assert_eq!((groups(Some(1), 2, 256), groups(Some(8), 2, 16)), (1, 8));
    }
}
