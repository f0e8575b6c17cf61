//! DeepCluster v2 (Caron et al., arXiv 2006.09882, appendix A.1): before each epoch the embeddings of all images are
//! clustered, and from each crop of an image the network learns to predict the image's clusters.

use std::sync::Arc;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::EpochPlan;
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose::INIT;
use ssl_backdoor_model::{Encoder, EncoderConfig, init, l2_normalize};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::crops::{SmallConfig, by_size, crops, images, of_view};
use crate::error::PretrainError;
use crate::kmeans::spherical_kmeans;
use crate::loss::{cross_entropy, indices};
use crate::method::{Batch, Method, Progress, Step};
use crate::projector::Projected;
use crate::purpose::CLUSTERS;
use crate::schedule::Schedule;
use crate::settings::{MethodSettings, check_dim, check_temperature};
use crate::swapped::{check_large, check_prototypes};
use crate::swav::LARC;
use crate::view_pair::ViewPair;

/// Config of DeepCluster v2; the defaults are the official repository's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeepClusterConfig {
    /// Number of clusters of each clustering, at most 16 clusterings; all are predicted. At most the number of training
    /// images.
    #[schemars(length(min = 1, max = 16), inner(range(min = 2, max = 1_048_576)))]
    pub prototypes: Vec<usize>,
    /// Iterations of k-means.
    #[schemars(range(min = 1, max = 1000))]
    pub iterations: usize,
    /// Temperature of the predictions.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Hidden width of the projector.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// Length of an embedding.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// Large crops of an image; their area is `crop` of the training. Each has its own bank of embeddings, which the
    /// clusterings use in turn.
    #[schemars(range(min = 2, max = 16))]
    pub large: usize,
    /// The augmentation of large and small crops.
    pub views: ViewPair,
    /// Small crops of an image, which enter no bank.
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

impl Default for DeepClusterConfig {
    fn default() -> Self {
        Self {
            prototypes: vec![3000; 3],
            iterations: 10,
            temperature: 0.1,
            hidden: 2048,
            dim: 128,
            large: 2,
            small: 6,
            views: ViewPair::Simclr,
            small_size: None,
            small_crop: (0.05, 0.14),
        }
    }
}

impl DeepClusterConfig {
    fn small(&self) -> SmallConfig {
        SmallConfig { count: self.small, size: self.small_size, crop: self.small_crop }
    }
}

/// Largest number of clusterings.
const MOST: usize = 16;

impl MethodSettings for DeepClusterConfig {
    fn name(&self) -> &'static str {
        "deepcluster-v2"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        TrainConfig {
            optimizer: LARC,
            weight_decay: 1e-6,
            schedule: Schedule::warmed_cosine(epochs, 10.0 / 400.0),
            crop: (0.14, 1.0),
            ..TrainConfig::sgd(epochs, 4096, 4.8)
        }
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        let sets = self.prototypes.len();
        let allowed = format!("1 to {MOST} numbers, one for each clustering");
        let value = format!("{:?}", self.prototypes);
        require((1..=MOST).contains(&sets), "method.prototypes", value, allowed)?;
        for &count in &self.prototypes {
            check_prototypes("method.prototypes", count)?;
        }
        let fits = (1..=1000).contains(&self.iterations);
        require(fits, "method.iterations", self.iterations, "1 to 1,000")?;
        check_temperature(self.temperature)?;
        check_dim("method.hidden", self.hidden)?;
        check_dim("method.dim", self.dim)?;
        check_large(self.large)?;
        Ok(self.small().check()?)
    }

    fn check_images(&self, images: usize) -> Result<(), PretrainError> {
        let most = self.prototypes.iter().copied().max().unwrap_or(0);
        let allowed = format!("at most the {images} training images");
        Ok(require(most <= images, "method.prototypes", most, allowed)?)
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

/// The network of DeepCluster v2, its banks and their clusters.
#[derive(Module, Debug)]
pub struct DeepCluster {
    pub(crate) network: Projected,
    /// For each clustering its centres, `[clusters, dim]`, rows of norm 1, without gradient.
    pub(crate) prototypes: Vec<Param<Tensor<2>>>,
    /// For each large crop the last embedding of every image, `[images, dim]`, in the order of the training set.
    pub(crate) banks: Vec<Param<Tensor<2>>>,
    /// For each clustering the cluster of every image, `[images]`.
    pub(crate) clusters: Vec<Param<Tensor<1>>>,
    temperature: f64,
    iterations: usize,
    views: [usize; 2],
    #[module(skip)]
    order: Order,
}

/// Order of the training set in each epoch, which gives the images of a step.
#[derive(Debug, Clone, Default)]
struct Order {
    plan: Option<EpochPlan>,
    /// The epoch requested last, and its order.
    epoch: Option<(usize, Vec<u64>)>,
}

impl Order {
    /// Positions in the training set of the images of a step.
    fn positions(&mut self, progress: &Progress) -> Vec<i64> {
        let Some(plan) = self.plan else { return Vec::new() };
        let epoch = progress.epoch;
        if self.epoch.as_ref().is_none_or(|(known, _)| *known != epoch) {
            self.epoch = Some((epoch, plan.order(epoch as u32)));
        }
        let order = self.epoch.as_ref().map(|(_, order)| order.as_slice()).unwrap_or_default();
        let places = order.get(plan.places(progress.step)).unwrap_or_default();
        places.iter().map(|&place| place as i64).collect()
    }

    fn begins_an_epoch(&self, step: usize) -> bool {
        self.plan.is_some_and(|plan| step.is_multiple_of(plan.steps_per_epoch().max(1)))
    }
}

impl DeepCluster {
    /// The banks start without images: [`prepare`](Method::prepare) makes room for a training set. `device` is an
    /// autodiff device.
    pub fn new(
        method: &DeepClusterConfig,
        encoder: &EncoderConfig,
        seed: u64,
        device: &Device,
    ) -> Self {
        let DeepClusterConfig { hidden, dim, large, small, .. } = *method;
        let mut rng = keyed(seed, INIT, 0, 0, 0);
        let widths = |width| vec![width, hidden, dim];
        let network = Projected::new(encoder, &mut rng, device, widths, true);
        let prototypes = method.prototypes.iter();
        let prototypes =
            prototypes.map(|&count| fixed(init::unit_rows(count, dim, &mut rng, device)));
        Self {
            network,
            prototypes: prototypes.collect(),
            banks: (0..large).map(|_| fixed(Tensor::zeros([0, dim], device))).collect(),
            clusters: method.prototypes.iter().map(|_| fixed(Tensor::zeros([0], device))).collect(),
            temperature: method.temperature,
            iterations: method.iterations,
            views: [large, small],
            order: Order::default(),
        }
    }

    /// Writes the embeddings of the images at `positions` to the banks, one tensor for each bank.
    fn remember(&mut self, embeddings: Vec<Tensor<2>>, positions: Vec<i64>) {
        for (bank, new) in self.banks.iter_mut().zip(embeddings) {
            let at = indices(positions.clone(), &new.device());
            let id = bank.id;
            let rows = replace(bank.val(), at, new.detach());
            *bank = Param::initialized(id, rows.detach().set_require_grad(false));
        }
    }

    /// Clusters the banks again: clustering h uses the bank of large crop h modulo the number of banks.
    fn cluster(&mut self, progress: &Progress) {
        let heads = self.prototypes.iter_mut().zip(&mut self.clusters);
        for (head, (prototypes, clusters)) in heads.enumerate() {
            let bank = self.banks[head % self.banks.len()].val();
            let epoch = progress.epoch as u32;
            let mut rng = keyed(progress.seed, CLUSTERS, epoch, head as u64, 0);
            let count = prototypes.val().dims()[0];
            let found = spherical_kmeans(&bank.inner(), count, self.iterations, &mut rng);
            let nearest: Vec<f32> = found.nearest.iter().map(|&at| at as f32).collect();
            let device = prototypes.val().device();
            let nearest = Tensor::<1>::from_data(nearest.as_slice(), &device);
            *prototypes = Param::initialized(
                prototypes.id,
                Tensor::from_inner(found.centres).set_require_grad(false),
            );
            *clusters = Param::initialized(clusters.id, nearest.set_require_grad(false));
        }
    }
}

impl Method for DeepCluster {
    fn prepare(mut self, plan: &EpochPlan) -> Result<Self, PretrainError> {
        let blank = |bank: &Param<Tensor<2>>| {
            let (device, dim) = (bank.val().device(), bank.val().dims()[1]);
            fixed(Tensor::zeros([plan.images, dim], &device))
        };
        self.banks = self.banks.iter().map(blank).collect();
        let blank = |clusters: &Param<Tensor<1>>| {
            fixed(Tensor::zeros([plan.images], &clusters.val().device()))
        };
        self.clusters = self.clusters.iter().map(blank).collect();
        self.order = Order { plan: Some(*plan), epoch: None };
        Ok(self)
    }

    fn row_by_image(&self) -> Option<&'static str> {
        Some("banks.0")
    }

    /// The large crops.
    fn looks_first(&self) -> Option<usize> {
        let [large, _] = self.views;
        Some(large)
    }

    /// Fills the banks.
    fn look(&mut self, batch: Batch, positions: &[u64]) -> Result<(), PretrainError> {
        let [large, _] = self.views;
        images(&batch.views, large)?;
        let embed = |view: &Tensor<4>| l2_normalize(self.network.forward(view.clone(), 1));
        let embeddings = batch.views.iter().map(embed).collect();
        self.remember(embeddings, positions.iter().map(|&position| position as i64).collect());
        Ok(())
    }

    /// The banks are clustered at the start of each epoch.
    fn before_step(mut self, progress: &Progress) -> Result<Self, PretrainError> {
        if self.order.begins_an_epoch(progress.step) {
            self.cluster(progress);
        }
        Ok(self)
    }

    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        let [large, small] = self.views;
        let count = images(&batch.views, large + small)?;
        let features = by_size(&batch.views, |images| self.network.encoder.forward(images));
        let embeddings = l2_normalize(self.network.head.forward(features));
        let positions = indices(self.order.positions(progress), &embeddings.device());
        let losses = self.prototypes.iter().zip(&self.clusters).map(|(prototypes, clusters)| {
            let scores = embeddings.clone().matmul(prototypes.val().transpose());
            let own = clusters.val().select(0, positions.clone()).int();
            let labels = Tensor::cat(vec![own; large + small], 0);
            cross_entropy(scores.div_scalar(self.temperature), labels)
        });
        let loss = Tensor::cat(losses.collect::<Vec<_>>(), 0).mean();
        let keys = (0..large).map(|view| of_view(&embeddings, view, count).detach()).collect();
        Ok(Step { keys, ..Step::new(loss, of_view(&embeddings, 0, count)) })
    }

    /// The batch's embeddings replace those of the previous epoch.
    fn after_step(
        mut self,
        keys: Vec<Tensor<2>>,
        progress: &Progress,
    ) -> Result<Self, PretrainError> {
        let positions = self.order.positions(progress);
        self.remember(keys, positions);
        Ok(self)
    }

    fn encoder(&self) -> Encoder {
        self.network.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.network.encoder = trained;
        self
    }

    /// The mean over the clusterings of ln(clusters).
    fn random_guess_loss(&self) -> Option<f64> {
        let of = |prototypes: &Param<Tensor<2>>| (prototypes.val().dims()[0] as f64).ln();
        Some(self.prototypes.iter().map(of).sum::<f64>() / self.prototypes.len().max(1) as f64)
    }

    fn prototypes(&self) -> Vec<Tensor<2>> {
        self.prototypes.iter().map(Param::val).collect()
    }
}

/// A parameter that does not learn.
fn fixed<const D: usize>(values: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::new(), values.set_require_grad(false))
}

/// `rows` with the rows `at` (each once) replaced by `new`. Not every device can assign rows by index, but all can
/// add: adding a row's negative leaves zeros, to which the new row is added.
fn replace(rows: Tensor<2>, at: Tensor<1, Int>, new: Tensor<2>) -> Tensor<2> {
    let old = rows.clone().select(0, at.clone());
    let without = rows.select_assign(0, at.clone(), old.neg(), IndexingUpdateOp::Add);
    without.select_assign(0, at, new, IndexingUpdateOp::Add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::init::matrix;

    #[test]
    fn rows_are_replaced_exactly() {
        let device = Device::flex();
        let rows = matrix(vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2, &device);
        let new = matrix(vec![1.0e-7, 0.7, 1234.5, -0.3], 2, &device);
        let found = replace(rows, indices(vec![2, 0], &device), new);
        let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
        assert_eq!(found, [1234.5, -0.3, 0.3, 0.4, 1.0e-7, 0.7]);
    }
}
