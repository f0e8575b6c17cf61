//! The interface of a self-supervised method to the training loop.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use ssl_backdoor_data::EpochPlan;
use ssl_backdoor_model::{Encoder, KeyQueue, Mlp};

use crate::ema::Ema;
use crate::error::PretrainError;
use crate::mixing::{Mix, Seen};

/// Training progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Seed of the run.
    pub seed: u64,
    /// Step, counted from the start of training.
    pub step: usize,
    /// Steps of the whole training.
    pub steps: usize,
    /// Epoch, from 0.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Number of images in all previous steps, which gives the position in a queue of keys.
    pub seen: usize,
}

/// The images that a step trains on.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[batch, 3, size, size]` per view.
    pub views: Vec<Tensor<4>>,
    /// Ids of the images, in the order of the batch.
    pub ids: Vec<u64>,
    /// For each image, which patches are hidden from the encoder, if the views hide any (MAE).
    pub hidden: Vec<Vec<bool>>,
}

impl Batch {
    /// The views of a method that uses `N` of them, `[batch, 3, size, size]` each.
    ///
    /// # Errors
    /// [`PretrainError::ViewCount`] if the batch holds another number.
    pub fn views<const N: usize>(&self) -> Result<[Tensor<4>; N], PretrainError> {
        let found = self.views.len();
        self.views.clone().try_into().map_err(|_| PretrainError::ViewCount { wanted: N, found })
    }

    /// The unmixed views, and each view mixed by its entry of `mixes`.
    ///
    /// # Errors
    /// [`PretrainError::ViewCount`] if the batch or `mixes` holds another number than `N`; as [`Mix::of`].
    pub fn mixed<const N: usize>(
        &self,
        mixes: &[Mix],
    ) -> Result<([Tensor<4>; N], [Seen; N]), PretrainError> {
        let views: [Tensor<4>; N] = self.views()?;
        let wrong = |found| PretrainError::ViewCount { wanted: N, found };
        if mixes.len() != N {
            return Err(wrong(mixes.len()));
        }
        let seen: Result<Vec<Seen>, _> =
            mixes.iter().zip(views.clone()).map(|(mix, view)| mix.of(view)).collect();
        Ok((views, seen?.try_into().map_err(|seen: Vec<_>| wrong(seen.len()))?))
    }
}

/// The result of a forward pass.
pub struct Step {
    /// Mean loss of the batch, `[1]`.
    pub loss: Tensor<1>,
    /// The rows that enter each of the queues or banks after the step, `[batch, dim]`, detached.
    pub keys: Vec<Tensor<2>>,
    /// The negatives of the first of `keys`, which must not contain them.
    pub negatives: Option<Tensor<2>>,
    /// The embeddings behind the loss, `[rows, dim]`, detached: if all rows are alike, training has collapsed.
    pub embeddings: Tensor<2>,
    /// Share of correct answers in a pretext task, `[1]`.
    pub accuracy: Option<Tensor<1>>,
}

impl Step {
    /// A step without keys.
    pub fn new(loss: Tensor<1>, embeddings: Tensor<2>) -> Self {
        let embeddings = embeddings.detach();
        Self { loss, keys: Vec::new(), negatives: None, embeddings, accuracy: None }
    }
}

/// Below this effective rank, embeddings differ in only one direction. In the trainings of `planted_pairs`, whose
/// embeddings have 16 features, sound methods stay above it (SimSiam 1.19 to 1.66, Barlow Twins 1.5 to 2.1), and
/// those with a planted bug are below (1.03 and 1.08).
pub(crate) const ONE_DIRECTION: f32 = 1.15;

/// A self-supervised method: the networks that it trains and what a step does.
///
/// The whole state is in the module's parameters, so a checkpoint is the module's record. Random numbers come from
/// [`keyed`](ssl_backdoor_rng::keyed), keyed by [`Progress`] and [`Batch`], never from a stream that a resumed
/// training would restart.
///
/// A training begins with `prepare` and, for a method that [looks first](Self::looks_first), with `look` at all
/// images. A step of the loop is `before_step`, `forward`, the backward pass, `gradients`, the optimiser and
/// `after_step`. What the canaries watch is optional: `random_guess_loss`, `least_rank`, `least_scale`, `queues`,
/// `prototypes`, `ema` and the fields of [`Step`].
pub trait Method: Module {
    /// Called once with the plan of all epochs, before a checkpoint is read into the method: DeepCluster v2 makes
    /// room for all images.
    ///
    /// # Errors
    /// Any error stops the training, for example if the training set does not fit.
    fn prepare(self, _plan: &EpochPlan) -> Result<Self, PretrainError> {
        Ok(self)
    }

    /// The name of a parameter that [`prepare`](Self::prepare) gave a row for each training image, if there is one:
    /// in a record of the method, it tells the number of images.
    fn row_by_image(&self) -> Option<&'static str> {
        None
    }

    /// How many views of each image, from the first on, the method sees once before the first step
    /// ([`look`](Self::look)). `None` for a method that does not look first.
    fn looks_first(&self) -> Option<usize> {
        None
    }

    /// Called before the first step, with views of some images and their `positions` in the training set: DeepCluster
    /// v2 fills its banks. A resumed training does not repeat it.
    ///
    /// # Errors
    /// Any error stops the training.
    fn look(&mut self, _batch: Batch, _positions: &[u64]) -> Result<(), PretrainError> {
        Ok(())
    }

    /// Called before the forward pass: the EMA of MoCo v2, MoCo v3 and MSF.
    ///
    /// # Errors
    /// Any error stops the training.
    fn before_step(self, _progress: &Progress) -> Result<Self, PretrainError> {
        Ok(self)
    }

    /// Whether the method sees all parts of a batch before the forward pass of the first ([`survey`](Self::survey)).
    fn surveys(&self) -> bool {
        false
    }

    /// Called with each part of a batch that is processed in parts, before the forward passes of all of them: SwAV
    /// computes the codes of a part from the whole batch. Batch norms then see the images twice.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn survey(&mut self, _part: Batch) -> Result<(), PretrainError> {
        Ok(())
    }

    /// Loss and keys of one batch. MSF enqueues its keys here.
    ///
    /// # Errors
    /// Any error stops the training: a batch with another number of views, keys that do not fit a queue.
    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError>;

    /// Like `forward`, but the trained network sees each view mixed by its entry of `mixes`, and the loss compares
    /// its output with both images' targets, weighted by their shares ([`Seen::loss`]). Targets and keys come from
    /// unmixed views. [`MethodSettings::mixes`](crate::MethodSettings::mixes) states which methods support this.
    ///
    /// # Errors
    /// [`PretrainError::NotApplicable`] for a method without such targets, which is the default; as
    /// [`forward`](Self::forward) and [`Mix::of`].
    fn forward_mixed(
        &mut self,
        _batch: Batch,
        _mixes: &[Mix],
        _progress: &Progress,
    ) -> Result<Step, PretrainError> {
        let what = "a mix of images";
        let needs = "targets that another network computes from the unmixed images";
        Err(PretrainError::NotApplicable { what, needs })
    }

    /// The gradients for the optimiser instead of `grads`: clipped, or without those of frozen layers (SwAV, DINO).
    fn gradients(&self, grads: GradientsParams, _progress: &Progress) -> GradientsParams {
        grads
    }

    /// Called after the optimiser's step, with the `keys` of the forward pass: the queue of MoCo v2, the EMA of BYOL.
    ///
    /// # Errors
    /// Any error stops the training.
    fn after_step(
        self,
        _keys: Vec<Tensor<2>>,
        _progress: &Progress,
    ) -> Result<Self, PretrainError> {
        Ok(self)
    }

    /// The network that is evaluated, without heads.
    fn encoder(&self) -> Encoder;

    /// The same method with other initial weights: `trained` is the encoder that learns, `copy` has the same weights
    /// for its EMA copy, if there is one.
    fn start_from(self, trained: Encoder, copy: Encoder) -> Self;

    /// The loss of random guessing, if the task has such a level.
    fn random_guess_loss(&self) -> Option<f64> {
        None
    }

    /// The effective rank of the embeddings ([`Spread::rank`](crate::Spread)) below which training has collapsed, for
    /// a method whose batch norm or loss keeps the standard deviation of collapsed embeddings up.
    fn least_rank(&self) -> Option<f32> {
        None
    }

    /// The standard deviation of the embeddings' features ([`Spread::scale`](crate::Spread)) below which training has
    /// collapsed, for a method whose loss depends on the length of embeddings.
    fn least_scale(&self) -> Option<f32> {
        None
    }

    /// The first layers of the head, if fine-tuning keeps them on top of the encoder; a ReLU follows them.
    fn kept_head(&self) -> Option<Mlp> {
        None
    }

    /// The queues of keys.
    fn queues(&self) -> Vec<&KeyQueue> {
        Vec::new()
    }

    /// The prototypes that a forward pass uses, `[prototypes, dim]` each: their rows must have norm 1.
    fn prototypes(&self) -> Vec<Tensor<2>> {
        Vec::new()
    }

    /// Target and online network of the EMA, for the canary that watches it.
    fn ema(&self, _progress: &Progress) -> Option<Ema> {
        None
    }
}
