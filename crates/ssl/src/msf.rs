//! MSF, mean shift (docs/protocol.md, 2.3): the prediction from a strong view is pulled towards the
//! nearest neighbours, in a bank of past targets, of the EMA copy's embedding of a weak view.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{ChainViews, Views};
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, KeyQueue, Mlp, l2_normalize, update_ema};
use ssl_backdoor_rng::keyed;

use crate::byol::distance;
use crate::config::TrainConfig;
use crate::ema::{Ema, EmaTiming};
use crate::error::PretrainError;
use crate::method::{Batch, Method, Progress, Step};
use crate::mixing::{Mix, Seen};
use crate::projector::{Projected, by_group, shuffled};
use crate::settings::{
    MethodSettings, check_dim, check_groups, check_momentum, check_queue, groups,
};

/// How an image is changed for the target encoder; the query's views are always strong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetView {
    /// Crop and flip, the repository's `weak/strong`, which its README uses.
    #[default]
    Weak,
    /// As that of the query.
    Strong,
}

/// Config of MSF; the defaults are the official repository's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MsfConfig {
    /// Rows of the memory bank, a multiple of the batch.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub queue: usize,
    /// Neighbours in the bank, including the image's own; at most `queue`.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub top_k: usize,
    /// EMA momentum of the target.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Hidden width of projector and predictor. Default: twice the length of a feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: Option<usize>,
    /// Length of an embedding. Default: a quarter of the length of a feature.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: Option<usize>,
    /// Groups of a batch with separate batch-norm statistics, as on several GPUs, in the encoder, the projector and the
    /// predictor; a divisor of the batch. Default: 4, as the reference, if each group has 32 images or more, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub bn_groups: Option<usize>,
    /// The target's view.
    pub target_view: TargetView,
}

/// Number of GPUs in the repository's README, for a ResNet-50; that of the paper's ResNet-18 is not known.
const GPUS: usize = 4;

impl Default for MsfConfig {
    fn default() -> Self {
        Self {
            queue: 128_000,
            top_k: 5,
            momentum: 0.99,
            hidden: None,
            dim: None,
            bn_groups: None,
            target_view: TargetView::Weak,
        }
    }
}

impl MsfConfig {
    /// Hidden width and length of an embedding.
    fn widths(&self, feature: usize) -> [usize; 2] {
        [self.hidden.unwrap_or(2 * feature), self.dim.unwrap_or(feature.div_ceil(4))]
    }
}

impl MethodSettings for MsfConfig {
    fn name(&self) -> &'static str {
        "msf"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        TrainConfig::sgd(epochs, 256, 0.05)
    }

    fn check(&self, train: &TrainConfig, encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_queue(self.queue, train.batch)?;
        let allowed = format!("1 to the {} rows of the queue", self.queue);
        let fits = (1..=self.queue).contains(&self.top_k);
        require(fits, "method.top_k", self.top_k, allowed)?;
        check_momentum(self.momentum)?;
        let [hidden, dim] = self.widths(encoder.dim());
        check_dim("method.hidden", hidden)?;
        check_dim("method.dim", dim)?;
        Ok(check_groups(self.bn_groups, train.batch)?)
    }

    fn bn_groups(&self, batch: usize) -> usize {
        groups(self.bn_groups, GPUS, batch)
    }

    fn mixes(&self) -> bool {
        true
    }

    fn views(
        &self,
        train: &TrainConfig,
        _encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError> {
        let (crop, blur) = (train.crop, train.blurs(size));
        Ok(Arc::new(match self.target_view {
            TargetView::Weak => ChainViews::msf(size, crop, blur),
            TargetView::Strong => ChainViews::moco(size, crop, blur),
        }))
    }
}

/// The networks and the memory bank of MSF.
#[derive(Module, Debug)]
pub struct Msf {
    pub(crate) query: Projected,
    pub(crate) predictor: Mlp,
    pub(crate) target: Projected,
    pub(crate) bank: KeyQueue,
    top_k: usize,
    momentum: f64,
    bn_groups: usize,
}

impl Msf {
    /// Both networks start with equal weights; the bank starts with random unit rows. `batch` is that of training;
    /// `device` is an autodiff device.
    pub fn new(
        method: &MsfConfig,
        encoder: &EncoderConfig,
        batch: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let MsfConfig { queue, top_k, momentum, .. } = *method;
        let bn_groups = method.bn_groups(batch);
        let [hidden, dim] = method.widths(encoder.dim());
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let widths = |width| vec![width, hidden, dim];
        let query = Projected::new(encoder, &mut rng, device, widths, true);
        let predictor = Mlp::normed(&[dim, hidden, dim], &mut rng, device);
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let target = Projected::new(encoder, &mut rng, device, widths, true).no_grad();
        let mut rng = keyed(seed, purpose::QUEUE, 0, 0, 0);
        let bank = KeyQueue::new(queue, dim, &mut rng, device);
        Self { query, predictor, target, bank, top_k, momentum, bn_groups }
    }

    /// The targets enter the bank before the search, so each is its own nearest neighbour. Encoder, projector and
    /// predictor all run under `DataParallel` in the reference: a GPU sees its own part of the batch in all three.
    fn step(
        &mut self,
        strong: Seen,
        weak: Tensor<4>,
        progress: &Progress,
    ) -> Result<Step, PretrainError> {
        let query = by_group(strong.images.clone(), self.bn_groups, |part| {
            self.predictor.forward(self.query.forward(part, 1))
        });
        let query = l2_normalize(query);
        let target = shuffled(weak, progress, |images| {
            by_group(images, self.bn_groups, |part| self.target.forward(part, 1))
        });
        let target = l2_normalize(target).detach();
        self.bank.enqueue(target.clone(), progress.seen)?;
        let bank = self.bank.rows();
        let loss = strong
            .loss(target, |target| mean_shift(query.clone(), target, bank.clone(), self.top_k));
        Ok(Step::new(loss, query))
    }
}

impl Method for Msf {
    fn before_step(self, _progress: &Progress) -> Result<Self, PretrainError> {
        let target = update_ema(self.target, &self.query, self.momentum);
        Ok(Self { target, ..self })
    }

    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        let [strong, weak] = batch.views()?;
        self.step(Seen::whole(strong), weak, progress)
    }

    /// Only the query's view is mixed.
    fn forward_mixed(
        &mut self,
        batch: Batch,
        mixes: &[Mix],
        progress: &Progress,
    ) -> Result<Step, PretrainError> {
        let ([_, weak], [strong, _]) = batch.mixed(mixes)?;
        self.step(strong, weak, progress)
    }

    fn encoder(&self) -> Encoder {
        self.query.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, copy: Encoder) -> Self {
        self.query.encoder = trained;
        self.target.encoder = copy.no_grad();
        self
    }

    fn queues(&self) -> Vec<&KeyQueue> {
        vec![&self.bank]
    }

    fn ema(&self, _progress: &Progress) -> Option<Ema> {
        Some(Ema::new(&self.query, &self.target, self.momentum, EmaTiming::BeforeStep))
    }
}

/// `2 − 2 · cos` between each query and the `top_k` rows of the bank nearest to its target, averaged
/// over neighbours and batch.
///
/// # Shapes
/// - `query`, `target`: `[batch, dim]`, rows of norm 1
/// - `bank`: `[K, dim]`, rows of norm 1
/// - output: `[1]`
pub fn mean_shift(query: Tensor<2>, target: Tensor<2>, bank: Tensor<2>, top_k: usize) -> Tensor<1> {
    let similarity = target.matmul(bank.clone().transpose());
    let [batch, dim] = query.dims();
    // The mean of the distances is the distance to the mean of the neighbours.
    let neighbours = bank.select(0, nearest(similarity, top_k));
    let mean = neighbours.reshape([batch, top_k, dim]).mean_dim(1).reshape([batch, dim]);
    distance(query, mean)
}

/// The columns of the `k` largest entries of each row, one row after the other, `[rows · k]`. The
/// device has no partial sort; for a small k it is faster to take the largest k times than to sort.
fn nearest(mut similarity: Tensor<2>, k: usize) -> Tensor<1, Int> {
    let rows = similarity.dims()[0];
    let mut found = Vec::with_capacity(k);
    for i in 0..k {
        let best = similarity.clone().argmax(1);
        if i + 1 < k {
            // Similarities are between −1 and 1: subtracting 4 moves the entry below all others.
            let away = Tensor::full([rows, 1], -4.0, &similarity.device());
            similarity = similarity.scatter(1, best.clone(), away, IndexingUpdateOp::Add);
        }
        found.push(best);
    }
    Tensor::cat(found, 1).reshape([rows * k])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::init;

    #[test]
    fn the_nearest_are_those_of_a_sort() {
        let device = Device::flex();
        let mut rng = keyed(3, purpose::INIT, 0, 0, 0);
        let similarity = init::unit_rows(7, 40, &mut rng, &device);
        let found: Vec<i64> = nearest(similarity.clone(), 5).into_data().iter::<i64>().collect();
        let values: Vec<f32> = similarity.into_data().try_to_vec().unwrap();
        for (row, found) in values.chunks_exact(40).zip(found.chunks_exact(5)) {
            let mut order: Vec<i64> = (0..40).collect();
            order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
            assert_eq!(found, &order[..5]);
        }
    }

    #[test]
    fn a_query_on_its_only_neighbour_has_no_loss_and_an_opposite_one_four() {
        let one = init::matrix(vec![1.0, 0.0], 2, &Device::flex());
        let bank = init::matrix(vec![0.0, 1.0, 1.0, 0.0], 2, &Device::flex());
        let loss = |query: Tensor<2>| -> f32 {
            mean_shift(query, one.clone(), bank.clone(), 1).into_scalar()
        };
        assert_eq!((loss(one.clone()), loss(one.clone().neg())), (0.0, 4.0));
    }
}
