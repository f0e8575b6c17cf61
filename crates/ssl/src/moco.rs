//! MoCo v2 (docs/protocol.md, 2.1): a query encoder learns to match the key of the same image, computed by an EMA
//! copy, against a queue of past keys.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{ChainViews, Views};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, KeyQueue, l2_normalize, update_ema};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::ema::{Ema, EmaTiming};
use crate::error::PretrainError;
use crate::method::{Batch, Method, Progress, Step};
use crate::mixing::{Mix, Seen};
use crate::projector::{Projected, shuffled};
use crate::settings::{
    MethodSettings, check_dim, check_groups, check_momentum, check_queue, check_temperature, groups,
};

/// Config of MoCo v2; the defaults are the protocol's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MocoConfig {
    /// Keys in the queue, a multiple of the batch.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub queue: usize,
    /// EMA momentum of the key encoder.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Temperature of InfoNCE.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Length of a key.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// Groups of a batch with separate batch-norm statistics, as on several GPUs; a divisor of the batch. Default: 2,
    /// as the reference, if each group has 32 images or more, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub bn_groups: Option<usize>,
}

/// Number of GPUs of the reference.
const GPUS: usize = 2;

impl Default for MocoConfig {
    fn default() -> Self {
        Self { queue: 65_536, momentum: 0.999, temperature: 0.2, dim: 128, bn_groups: None }
    }
}

impl MethodSettings for MocoConfig {
    fn name(&self) -> &'static str {
        "moco-v2"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        TrainConfig::sgd(epochs, 256, 0.06)
    }

    fn check(&self, train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_queue(self.queue, train.batch)?;
        check_momentum(self.momentum)?;
        check_temperature(self.temperature)?;
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
        Ok(Arc::new(ChainViews::moco(size, train.crop, train.blurs(size))))
    }
}

/// The networks and the queue of MoCo v2.
#[derive(Module, Debug)]
pub struct Moco {
    pub(crate) query: Projected,
    pub(crate) key: Projected,
    pub(crate) queue: KeyQueue,
    momentum: f64,
    temperature: f64,
    bn_groups: usize,
}

impl Moco {
    /// Query and key encoder start with equal weights; the queue starts with random unit rows. `batch` is that of
    /// training; `device` is an autodiff device.
    pub fn new(
        method: &MocoConfig,
        encoder: &EncoderConfig,
        batch: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let MocoConfig { queue, momentum, temperature, dim, .. } = *method;
        let bn_groups = method.bn_groups(batch);
        // Linear, ReLU, Linear on the pooled features, no batch norm. Two inits with the same key, not
        // a clone: a clone would share running statistics and parameter ids.
        let network = || {
            let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
            Projected::new(encoder, &mut rng, device, |width| vec![width, width, dim], false)
        };
        let mut rng = keyed(seed, purpose::QUEUE, 0, 0, 0);
        let queue = KeyQueue::new(queue, dim, &mut rng, device);
        // Even without gradients, the key encoder's batch norms stay in training mode.
        let (query, key) = (network(), network().no_grad());
        Self { query, key, queue, momentum, temperature, bn_groups }
    }

    /// Queries of `first`, keys of `second`, with the queue as negatives.
    fn step(&mut self, first: Seen, second: Tensor<4>, progress: &Progress) -> Step {
        let query = l2_normalize(self.query.forward(first.images.clone(), self.bn_groups));
        // The head has no batch norm: it may see all groups at once.
        let keys = shuffled(second, progress, |images| self.key.forward(images, self.bn_groups));
        let keys = l2_normalize(keys).detach();
        let queue = self.queue.rows();
        let loss = first.loss(keys.clone(), |keys| {
            info_nce(query.clone(), keys, queue.clone(), self.temperature)
        });
        Step { keys: vec![keys], negatives: Some(queue), ..Step::new(loss, query) }
    }
}

impl Method for Moco {
    fn before_step(self, _progress: &Progress) -> Result<Self, PretrainError> {
        let key = update_ema(self.key, &self.query, self.momentum);
        Ok(Self { key, ..self })
    }

    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        let [first, second] = batch.views()?;
        Ok(self.step(Seen::whole(first), second, progress))
    }

    /// Only the query's view is mixed.
    fn forward_mixed(
        &mut self,
        batch: Batch,
        mixes: &[Mix],
        progress: &Progress,
    ) -> Result<Step, PretrainError> {
        let ([_, second], [first, _]) = batch.mixed(mixes)?;
        Ok(self.step(first, second, progress))
    }

    fn after_step(
        mut self,
        keys: Vec<Tensor<2>>,
        progress: &Progress,
    ) -> Result<Self, PretrainError> {
        for keys in keys {
            self.queue.enqueue(keys, progress.seen)?;
        }
        Ok(self)
    }

    fn encoder(&self) -> Encoder {
        self.query.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, copy: Encoder) -> Self {
        self.query.encoder = trained;
        self.key.encoder = copy.no_grad();
        self
    }

    fn random_guess_loss(&self) -> Option<f64> {
        Some((self.queue.rows().dims()[0] as f64 + 1.0).ln())
    }

    fn queues(&self) -> Vec<&KeyQueue> {
        vec![&self.queue]
    }

    fn ema(&self, _progress: &Progress) -> Option<Ema> {
        Some(Ema::new(&self.query, &self.key, self.momentum, EmaTiming::BeforeStep))
    }
}

/// InfoNCE: cross entropy of `[q·k, q·queue] / temperature` with the query's own key (index 0) as the class, averaged
/// over the batch. The queue is the one *before* the batch's keys enter.
///
/// # Shapes
/// - `query`, `key`: `[batch, dim]`, rows of norm 1
/// - `queue`: `[K, dim]`
/// - output: `[1]`
pub fn info_nce(query: Tensor<2>, key: Tensor<2>, queue: Tensor<2>, temperature: f64) -> Tensor<1> {
    let positive = (query.clone() * key).sum_dim(1);
    let negative = query.matmul(queue.transpose());
    let logits = Tensor::cat(vec![positive, negative], 1).div_scalar(temperature);
    log_softmax(logits, 1).slice(s![.., 0..1]).mean().neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use ssl_backdoor_model::Stem;

    fn tensor(values: &[f32], rows: usize) -> Tensor<2> {
        let shape = [rows, values.len() / rows];
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn info_nce_by_hand() {
        let query = tensor(&[1.0, 0.0, 0.6, 0.8], 2);
        let key = tensor(&[0.8, 0.6, 0.6, 0.8], 2);
        let queue = tensor(&[0.0, 1.0, 1.0, 0.0, -1.0, 0.0], 3);
        let loss: f32 = info_nce(query, key, queue, 0.5).into_scalar();
        let row = |own: f64, others: [f64; 3]| {
            let total: f64 =
                (2.0 * own).exp() + others.map(|o| (2.0 * o).exp()).iter().sum::<f64>();
            total.ln() - 2.0 * own
        };
        let expected = (row(0.8, [0.0, 1.0, -1.0]) + row(1.0, [0.8, 0.6, -0.6])) / 2.0;
        assert!((f64::from(loss) - expected).abs() < 1e-6, "{loss} {expected}");
    }

    #[test]
    fn equal_logits_give_the_chance_level() {
        let same = tensor(&[1.0, 0.0], 1);
        let queue = tensor(&[1.0, 0.0].repeat(7), 7);
        let loss: f32 = info_nce(same.clone(), same, queue, 0.2).into_scalar();
        assert!((loss - 8f32.ln()).abs() < 1e-6);
    }

    fn progress(step: usize) -> Progress {
        Progress { seed: 1, step, steps: 2, epoch: 0, epochs: 1, seen: 4 * step }
    }

    fn moco(bn_groups: usize) -> Moco {
        let bn_groups = Some(bn_groups);
        let method = MocoConfig { queue: 8, momentum: 0.9, temperature: 0.2, dim: 6, bn_groups };
        let encoder = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        Moco::new(&method, &encoder, 4, 1, &Device::flex().autodiff())
    }

    fn views(batch: usize) -> Batch {
        let count = batch * 3 * 64;
        let values: Vec<f32> = (0..count).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
        let device = Device::flex().autodiff();
        let data = TensorData::new(values, [batch, 3, 8, 8]);
        let views = [data.clone(), data].map(|data| Tensor::from_data(data, &device)).to_vec();
        Batch { views, ids: (0..batch as u64).collect(), hidden: Vec::new() }
    }

    #[test]
    fn equal_views_and_encoders_give_equal_embeddings_despite_the_shuffle() {
        let mut moco = moco(1);
        let two = views(4);
        let query = l2_normalize(moco.query.forward(two.views[0].clone(), 1));
        let step = moco.forward(two, &progress(0)).unwrap();
        query.into_data().assert_approx_eq::<f32>(
            &step.keys[0].clone().into_data(),
            burn::tensor::Tolerance::absolute(1e-5),
        );
    }

    #[test]
    fn keys_enter_the_queue_after_the_loss_and_only_the_query_gets_gradients() {
        let mut moco = moco(2).before_step(&progress(0)).unwrap();
        let before = moco.queue.rows().into_data();
        let step = moco.forward(views(4), &progress(0)).unwrap();
        assert_eq!(moco.queue.rows().into_data(), before);
        let keys = step.keys[0].clone().into_data();
        let grads = step.loss.backward();
        let grads = burn::optim::GradientsParams::from_grads(grads, &moco);
        let of_query = {
            let step = moco.forward(views(4), &progress(0)).unwrap();
            burn::optim::GradientsParams::from_grads(step.loss.backward(), &moco.query).len()
        };
        assert_eq!(grads.len(), of_query);
        let moco = moco.after_step(step.keys, &progress(1)).unwrap();
        assert_eq!(moco.queue.rows().slice(s![4..8, ..]).into_data(), keys);
    }
}
