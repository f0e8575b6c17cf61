//! SwAV (Caron et al., NeurIPS 2020, arXiv 2006.09882): from each crop of an image, the network learns to predict the
//! code of a large crop: its assignment to prototypes, with the constraint that a batch uses all prototypes equally.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{
    Encoder, EncoderConfig, KeyQueue, LarsConfig, LarsScope, init, l2_normalize,
};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::crops::{SmallConfig, by_size, crops, images, of_view};
use crate::error::PretrainError;
use crate::method::{Batch, Method, Progress, Step};
use crate::optimizer::OptimizerConfig;
use crate::projector::Projected;
use crate::schedule::Schedule;
use crate::settings::{MethodSettings, Rescaling, check_dim, check_softness, check_temperature};
use crate::sinkhorn::sinkhorn;
use crate::swapped::{check_large, check_prototypes, swapped_prediction};
use crate::view_pair::ViewPair;

/// Config of SwAV; the defaults are the official repository's for batches of 256 images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SwavConfig {
    /// Temperature of the predictions.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// ε of the Sinkhorn algorithm: how soft codes are.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// Iterations of the Sinkhorn algorithm.
    #[schemars(range(min = 1, max = 1000))]
    pub iterations: usize,
    /// Number of prototypes.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub prototypes: usize,
    /// First steps in which the prototypes are not trained, fewer than all steps. The default is for ImageNet.
    pub frozen_steps: usize,
    /// Past embeddings of each large crop that are used for the codes together with the batch; 0 for none.
    #[schemars(range(min = 0, max = 16_777_216))]
    pub queue: usize,
    /// Epoch, counted from 0, in which the queue begins to fill, below `epochs`; it is used once it is full.
    pub queue_from: usize,
    /// Hidden width of the projector.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// Layers of the projector: 2, or 3 as in SEER. Default: 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub layers: Option<usize>,
    /// Batch norm in the projector; SEER has none. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_norm: Option<bool>,
    /// Length of an embedding.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// Large crops of an image, each with its own code; their area is `crop` of the training.
    #[schemars(range(min = 2, max = 16))]
    pub large: usize,
    /// The augmentation of large and small crops.
    pub views: ViewPair,
    /// Small crops of an image, without codes.
    #[schemars(range(min = 0, max = 64))]
    pub small: usize,
    /// Side of a small crop in pixels, below that of a large one. Default: 96/224 of that of a large crop.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub small_size: Option<u32>,
    /// Share of the area of an image that a small crop takes, lowest and highest. Range: above 0, at most 1.
    #[schemars(inner(range(max = 1)))]
    pub small_crop: (f64, f64),
}

impl Default for SwavConfig {
    fn default() -> Self {
        Self {
            temperature: 0.1,
            epsilon: 0.05,
            iterations: 3,
            prototypes: 3000,
            frozen_steps: 5005,
            queue: 3840,
            queue_from: 15,
            hidden: 2048,
            layers: None,
            head_norm: None,
            dim: 128,
            large: 2,
            small: 6,
            views: ViewPair::Simclr,
            small_size: None,
            small_crop: (0.05, 0.14),
        }
    }
}

/// Layers of the projector if the config does not say.
const LAYERS: usize = 2;

/// LARC of NVIDIA's apex, as the references of SwAV and DeepCluster v2 use it: vectors are scaled too, and nothing is
/// clipped.
pub(crate) const LARC: OptimizerConfig =
    OptimizerConfig::Lars(LarsConfig { scaled: LarsScope::All, ..LarsConfig::new(0.001, false) });

impl SwavConfig {
    fn small(&self) -> SmallConfig {
        SmallConfig { count: self.small, size: self.small_size, crop: self.small_crop }
    }
}

impl MethodSettings for SwavConfig {
    fn name(&self) -> &'static str {
        "swav"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        TrainConfig {
            optimizer: LARC,
            weight_decay: 1e-6,
            schedule: Schedule::Cosine { warmup_epochs: 0 },
            crop: (0.14, 1.0),
            ..TrainConfig::sgd(epochs, 256, 0.6)
        }
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_temperature(self.temperature)?;
        check_softness("method.epsilon", self.epsilon)?;
        let fits = (1..=1000).contains(&self.iterations);
        require(fits, "method.iterations", self.iterations, "1 to 1,000")?;
        check_prototypes("method.prototypes", self.prototypes)?;
        require(self.queue <= 1 << 24, "method.queue", self.queue, "at most 16,777,216")?;
        check_dim("method.hidden", self.hidden)?;
        check_dim("method.dim", self.dim)?;
        let layers = self.layers.unwrap_or(LAYERS);
        require((1..=16).contains(&layers), "method.layers", layers, "1 to 16")?;
        check_large(self.large)?;
        Ok(self.small().check()?)
    }

    fn check_clocks(
        &self,
        train: &TrainConfig,
        images: Option<usize>,
    ) -> Result<(), PretrainError> {
        let epochs = train.epochs;
        let allowed = format!(
            "below the {epochs} epochs of the training (the default is for 200 or more), or queue = 0"
        );
        let fits = self.queue == 0 || self.queue_from < epochs;
        require(fits, "method.queue_from", self.queue_from, allowed)?;
        let Some(images) = images else { return Ok(()) };
        let steps = train.steps(images);
        if self.queue > 0 {
            // What enters the queue before the last step.
            let before = (steps / epochs).saturating_mul(self.queue_from);
            let entering = train.batch * steps.saturating_sub(before.saturating_add(1));
            let allowed = format!(
                "at most {entering}, the embeddings that enter it from epoch {} on; otherwise it is never full, and never used",
                self.queue_from
            );
            require(self.queue <= entering, "method.queue", self.queue, allowed)?;
        }
        let allowed = format!(
            "below the {steps} steps of the training (the default is one epoch of ImageNet in batches of 256)"
        );
        Ok(require(self.frozen_steps < steps, "method.frozen_steps", self.frozen_steps, allowed)?)
    }

    fn rescale(&mut self, by: &Rescaling) {
        self.frozen_steps = by.step(self.frozen_steps);
        self.queue_from = by.epoch(self.queue_from);
    }

    /// Codes are computed from all parts before the first gradient.
    fn accumulates(&self) -> bool {
        true
    }

    fn views(
        &self,
        train: &TrainConfig,
        encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError> {
        Ok(Arc::new(crops(self.views, self.large, self.small(), train, encoder, size)?))
    }
}

/// The network of SwAV with its prototypes, and a queue for each large crop.
#[derive(Module, Debug)]
pub struct Swav {
    pub(crate) network: Projected,
    /// `[prototypes, dim]`, rows of norm 1 in every forward pass.
    pub(crate) prototypes: Param<Tensor<2>>,
    /// Rows are zero until they are filled.
    pub(crate) queues: Vec<KeyQueue>,
    temperature: f64,
    epsilon: f64,
    iterations: usize,
    frozen_steps: usize,
    queue_from: usize,
    views: [usize; 2],
    /// Whether a batch has entered the queues, and whether they are full.
    queued: [bool; 2],
    #[module(skip)]
    ahead: Ahead,
}

/// Results for the whole batch of a step, by large crop, from before the forward passes of its parts.
#[derive(Debug, Clone, Default)]
struct Ahead {
    /// Scores of the parts so far, `[images, prototypes]`.
    scores: Vec<Tensor<2>>,
    /// Codes of the images that have not had a forward pass yet, `[images, prototypes]`.
    codes: Vec<Tensor<2>>,
}

impl Swav {
    /// `device` is an autodiff device.
    pub fn new(method: &SwavConfig, encoder: &EncoderConfig, seed: u64, device: &Device) -> Self {
        let SwavConfig { hidden, dim, prototypes, queue, large, small, .. } = *method;
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let inner = method.layers.unwrap_or(LAYERS).saturating_sub(1);
        let widths = |width| [vec![width], vec![hidden; inner], vec![dim]].concat();
        let normed = method.head_norm.unwrap_or(true);
        let network = Projected::new(encoder, &mut rng, device, widths, normed);
        let prototypes = init::linear_uniform([prototypes, dim], dim, &mut rng, device);
        let blank = || KeyQueue::of(Tensor::zeros([queue, dim], device));
        let queues = (0..if queue == 0 { 0 } else { large }).map(|_| blank()).collect();
        Self {
            network,
            prototypes,
            queues,
            temperature: method.temperature,
            epsilon: method.epsilon,
            iterations: method.iterations,
            frozen_steps: method.frozen_steps,
            queue_from: method.queue_from,
            views: [large, small],
            queued: [false; 2],
            ahead: Ahead::default(),
        }
    }

    /// Embeddings of all crops, `[crops · batch, dim]`, and their scores, `[crops · batch, prototypes]`.
    fn scores(&self, network: &Projected, views: &[Tensor<4>]) -> [Tensor<2>; 2] {
        let features = by_size(views, |images| network.encoder.forward(images));
        let embeddings = l2_normalize(network.head.forward(features));
        let scores = embeddings.clone().matmul(self.prototypes.val().transpose());
        [embeddings, scores]
    }

    /// The codes of the large crops of `count` images: those computed ahead, or new ones from `scores`.
    fn next_codes(&mut self, scores: &Tensor<2>, count: usize) -> Vec<Tensor<2>> {
        let Ahead { scores: whole, codes } = std::mem::take(&mut self.ahead);
        let codes = match whole.is_empty() {
            true => codes,
            false => (0..).zip(whole).map(|(crop, scores)| self.codes(crop, scores)).collect(),
        };
        let Some(left) = codes.first().map(|codes| codes.dims()[0]) else {
            let [large, _] = self.views;
            return (0..large).map(|crop| self.codes(crop, of_view(scores, crop, count))).collect();
        };
        if left > count {
            let later = |codes: &Tensor<2>| codes.clone().slice(s![count.., ..]);
            self.ahead.codes = codes.iter().map(later).collect();
        }
        codes.into_iter().map(|codes| codes.slice(s![..count, ..])).collect()
    }

    /// Codes of a large crop from its scores `[batch, prototypes]`, computed with its queue once that is full.
    fn codes(&self, crop: usize, scores: Tensor<2>) -> Tensor<2> {
        let rows = scores.dims()[0];
        let queue = self.queues.get(crop).filter(|_| self.queued[1]);
        let Some(queue) = queue else { return sinkhorn(scores, self.epsilon, self.iterations) };
        let before = queue.rows().matmul(self.prototypes.val().detach().transpose());
        let earlier = before.dims()[0];
        let codes = sinkhorn(Tensor::cat(vec![before, scores], 0), self.epsilon, self.iterations);
        codes.slice(s![earlier..earlier + rows, ..])
    }

    /// Whether the queues are full, in this epoch or before.
    fn are_full(&self, progress: &Progress) -> bool {
        let full = |queue: &KeyQueue| {
            let least: f32 = queue.rows().abs().sum_dim(1).min().into_scalar();
            least > 0.0
        };
        let begun = progress.epoch >= self.queue_from && !self.queues.is_empty();
        self.queued[1] || begun && self.queues.iter().all(full)
    }
}

impl Method for Swav {
    /// Scales the prototypes back to norm 1.
    fn before_step(mut self, progress: &Progress) -> Result<Self, PretrainError> {
        self.queued[1] = self.are_full(progress);
        let prototypes = self.prototypes.map(unit_rows);
        Ok(Self { prototypes, ..self })
    }

    fn surveys(&self) -> bool {
        true
    }

    /// Collects the scores of the large crops: codes are computed from those of the whole batch.
    fn survey(&mut self, part: Batch) -> Result<(), PretrainError> {
        let [large, small] = self.views;
        let count = images(&part.views, large + small)?;
        let [_, scores] = self.scores(&self.network.clone().no_grad(), &part.views);
        let scores = scores.detach();
        let own = (0..large).map(|crop| of_view(&scores, crop, count));
        self.ahead.scores = match self.ahead.scores.is_empty() {
            true => own.collect(),
            false => {
                let before = std::mem::take(&mut self.ahead.scores).into_iter();
                before.zip(own).map(|(before, own)| Tensor::cat(vec![before, own], 0)).collect()
            }
        };
        Ok(())
    }

    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let [large, small] = self.views;
        let count = images(&batch.views, large + small)?;
        let [embeddings, scores] = self.scores(&self.network, &batch.views);
        let codes = self.next_codes(&scores, count);
        let predicted = log_softmax(scores.div_scalar(self.temperature), 1);
        let keys = (0..large).map(|crop| of_view(&embeddings, crop, count).detach()).collect();
        let loss = swapped_prediction(&codes, &predicted);
        Ok(Step { keys, ..Step::new(loss, of_view(&embeddings, 0, count)) })
    }

    /// Removes the gradient of the prototypes in the first steps.
    fn gradients(&self, mut grads: GradientsParams, progress: &Progress) -> GradientsParams {
        if progress.step < self.frozen_steps {
            let _ = grads.remove::<2>(self.prototypes.id);
        }
        grads
    }

    fn after_step(
        mut self,
        keys: Vec<Tensor<2>>,
        progress: &Progress,
    ) -> Result<Self, PretrainError> {
        if progress.epoch >= self.queue_from {
            for (queue, keys) in self.queues.iter_mut().zip(keys) {
                queue.enqueue(keys, progress.seen)?;
                self.queued[0] = true;
            }
        }
        Ok(self)
    }

    fn encoder(&self) -> Encoder {
        self.network.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.network.encoder = trained;
        self
    }

    fn random_guess_loss(&self) -> Option<f64> {
        Some((self.prototypes.val().dims()[0] as f64).ln())
    }

    fn queues(&self) -> Vec<&KeyQueue> {
        self.queues.iter().filter(|_| self.queued[0]).collect()
    }

    fn prototypes(&self) -> Vec<Tensor<2>> {
        vec![self.prototypes.val()]
    }
}

/// The same parameter with rows of norm 1.
pub(crate) fn unit_rows(rows: Tensor<2>) -> Tensor<2> {
    let learns = rows.is_require_grad();
    Tensor::from_inner(l2_normalize(rows.inner())).set_require_grad(learns)
}

#[cfg(test)]
mod tests;
