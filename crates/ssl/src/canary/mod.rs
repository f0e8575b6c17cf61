//! Canaries: cheap checks, during training, that its arithmetic is that of the method. A failed check stops the run
//! with a diagnosis or reports a warning, as `canaries` in the config says.
//!
//! | name | condition |
//! |---|---|
//! | `queue-norm` | rows that a method wrote to a queue have norm 1 |
//! | `prototypes` | the prototypes that a forward pass uses have norm 1 |
//! | `own-keys` | the batch's own keys are not among its negatives |
//! | `ema` | every parameter of a target follows the EMA, and requires no gradient |
//! | `gradient` | every gradient is finite |
//! | `learning-rate` | parameters move as the optimiser computes with this learning rate |
//! | `collapse` | embeddings of different images differ, in direction or, if the method says so, in size |
//! | `rank` | embeddings differ in more than one direction, for methods whose batch norm hides a collapse |
//! | `chance` | after half of the training, the loss is below that of random guessing |

mod gradient;
mod spread;
mod update;

use std::collections::BTreeSet;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use spread::Spread;
pub(crate) use update::Shadow;

use crate::ema::EmaTiming;
use crate::error::PretrainError;
use crate::method::{Method, Progress};

/// What happens when a canary fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CanaryMode {
    /// The run stops with a diagnosis.
    #[default]
    Stop,
    /// The run prints one warning and goes on.
    Warn,
    /// No canary is checked; a loss that is not finite still stops the run.
    Off,
}

/// The more expensive canaries run every this many steps, and in the first three steps.
const EVERY: usize = 50;
/// Largest allowed difference of a norm from 1.
const NORM_ERROR: f32 = 1e-3;
/// Embeddings have collapsed if their spread is below this share of that of random directions.
const COLLAPSED: f32 = 0.01;
/// Collapse is not checked before this many steps.
pub(crate) const COLLAPSE_FROM: usize = 100;
/// The loss is compared with chance level only after this many steps and after half of the training.
pub(crate) const CHANCE_FROM: usize = 500;
/// The loss must be below this share of the chance level.
const BELOW_CHANCE: f64 = 0.99;

/// How many of a batch's keys are searched for among its negatives; the search ends with the first that is absent.
const OWN_KEYS: usize = 8;

/// The largest difference of a row's norm from 1.
fn off_one(rows: Tensor<2>) -> f32 {
    let norms = rows.powi_scalar(2).sum_dim(1).sqrt();
    norms.sub_scalar(1.0).abs().max().into_scalar()
}

/// The canaries of one training.
pub(crate) struct Canaries {
    mode: CanaryMode,
    steps: usize,
    /// Follows the optimiser.
    shadow: Shadow,
    /// Canaries that have failed in the warning mode.
    warned: BTreeSet<&'static str>,
    /// Their messages that have not been reported yet.
    warnings: Vec<PretrainError>,
}

impl Canaries {
    /// The canaries of a training with `steps` steps, whose optimiser `shadow` follows.
    pub fn new(mode: CanaryMode, steps: usize, shadow: Shadow) -> Self {
        Self { mode, steps, shadow, warned: BTreeSet::new(), warnings: Vec::new() }
    }

    /// The shadow of the optimiser, which is part of a checkpoint.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// New messages of canaries in the warning mode; each canary reports once.
    pub fn take_warnings(&mut self) -> Vec<PretrainError> {
        std::mem::take(&mut self.warnings)
    }

    fn breach(
        &mut self,
        canary: &'static str,
        progress: &Progress,
        diagnosis: String,
    ) -> Result<(), PretrainError> {
        let Progress { step, epoch, .. } = *progress;
        let breach = PretrainError::Canary {
            canary,
            step,
            epoch,
            diagnosis,
            stops: self.mode == CanaryMode::Stop,
        };
        match self.mode {
            CanaryMode::Stop => return Err(breach),
            CanaryMode::Warn if self.warned.insert(canary) => self.warnings.push(breach),
            CanaryMode::Warn | CanaryMode::Off => {}
        }
        Ok(())
    }

    fn looks(&self, progress: &Progress) -> bool {
        let step = progress.step;
        self.mode != CanaryMode::Off && (step < 3 || step.is_multiple_of(EVERY))
    }

    /// Runs `step`, the part of a training step at `timing`, and checks that the target followed the EMA.
    pub fn follow<M: Method>(
        &mut self,
        timing: EmaTiming,
        method: M,
        progress: &Progress,
        step: impl FnOnce(M) -> Result<M, PretrainError>,
    ) -> Result<M, PretrainError> {
        let before = self.looks(progress).then(|| method.ema(progress)).flatten();
        let method = step(method)?;
        if let Some(before) = before.filter(|ema| ema.timing == timing)
            && let Some(after) = method.ema(progress)
            && let Some(diagnosis) = before.wrong(&after)
        {
            self.breach("ema", progress, diagnosis)?;
        }
        Ok(method)
    }

    /// Checks the prototypes that the forward pass will use.
    pub fn prototypes<M: Method>(
        &mut self,
        method: &M,
        progress: &Progress,
    ) -> Result<(), PretrainError> {
        if !self.looks(progress) {
            return Ok(());
        }
        for rows in method.prototypes() {
            let off = off_one(rows);
            if off.is_nan() || off > NORM_ERROR {
                let diagnosis = format!("the norm of a prototype differs from 1 by {off}");
                self.breach("prototypes", progress, diagnosis)?;
            }
        }
        Ok(())
    }

    /// Checks that the batch's own `keys` are not among its negatives.
    pub fn negatives(
        &mut self,
        keys: &[Tensor<2>],
        negatives: Option<Tensor<2>>,
        progress: &Progress,
    ) -> Result<(), PretrainError> {
        let (Some(keys), Some(negatives)) = (keys.first(), negatives) else { return Ok(()) };
        if !self.looks(progress) {
            return Ok(());
        }
        // A polluted queue holds all keys of the batch. A sound one may hold some of them, if an image occurs twice.
        let found = |i: usize| {
            let own = keys.clone().slice(s![i..i + 1, ..]);
            (negatives.clone() - own).abs().max_dim(1).min().into_scalar::<f32>() == 0.0
        };
        if (0..keys.dims()[0].min(OWN_KEYS)).all(found) {
            let diagnosis = "the keys of this batch are among its negatives. If the training images contain duplicates, \
                             remove them; otherwise the keys entered the queue before the loss used it, which is a bug \
                             of the method";
            self.breach("own-keys", progress, diagnosis.into())?;
        }
        Ok(())
    }

    /// Returns the norm of all gradients, and checks that each of them is finite.
    pub fn gradients<M: Module>(
        &mut self,
        method: &M,
        grads: &GradientsParams,
        progress: &Progress,
    ) -> Result<Option<f32>, PretrainError> {
        if self.mode == CanaryMode::Off {
            return Ok(None);
        }
        let norm = gradient::norm(method, grads);
        if !norm.is_finite() {
            let at = gradient::not_finite(method, grads).unwrap_or_else(|| "their sum".into());
            self.breach("gradient", progress, format!("the gradient of {at} is not finite"))?;
        }
        Ok(Some(norm))
    }

    /// Passes the weight decay of the next step to the shadow.
    pub fn decay(&mut self, weight_decay: f64) {
        self.shadow.decay(weight_decay);
    }

    /// Compares the optimiser's step with the shadow's expectation.
    pub fn update<M: Module>(
        &mut self,
        lr: f64,
        method: M,
        grads: GradientsParams,
        progress: &Progress,
        step: impl FnOnce(M, GradientsParams) -> M,
    ) -> Result<M, PretrainError> {
        if self.mode == CanaryMode::Off {
            return Ok(step(method, grads));
        }
        self.shadow.before(lr, &method, &grads);
        let method = step(method, grads);
        if let Some(diagnosis) = self.shadow.after(&method) {
            let diagnosis = format!("{diagnosis} (learning rate {lr:.3e})");
            self.breach("learning-rate", progress, diagnosis)?;
        }
        Ok(method)
    }

    /// Checks the rows that this step of `images` images wrote to the queues.
    pub fn queues<M: Method>(
        &mut self,
        method: &M,
        images: usize,
        progress: &Progress,
    ) -> Result<(), PretrainError> {
        if !self.looks(progress) {
            return Ok(());
        }
        for queue in method.queues() {
            let off = off_one(queue.written(images, progress.seen));
            // NaN compares false, but is a breach too.
            if off.is_nan() || off > NORM_ERROR {
                let diagnosis =
                    format!("the norm of a row written to the queue differs from 1 by {off}");
                self.breach("queue-norm", progress, diagnosis)?;
            }
        }
        Ok(())
    }

    /// The spread of the embeddings of a batch.
    pub fn spread(&self, embeddings: Tensor<2>) -> Option<Spread> {
        (self.mode != CanaryMode::Off).then(|| Spread::of(embeddings))
    }

    /// Checks that embeddings have not collapsed.
    fn collapse<M: Method>(
        &mut self,
        Spread { std, rank, scale }: Spread,
        method: &M,
        progress: &Progress,
    ) -> Result<(), PretrainError> {
        const CURE: &str = "Lower the learning rate or use another seed";
        if std < COLLAPSED {
            let diagnosis = format!(
                "the embeddings of different images are almost the same: standard deviation {std:.4} (1 = \
                 spread evenly), effective rank {rank:.1}. {CURE}"
            );
            self.breach("collapse", progress, diagnosis)?;
        }
        if let Some(least) = method.least_scale()
            && scale < least
        {
            let diagnosis = format!(
                "the embeddings of different images have collapsed: standard deviation {scale:.4} of a \
                 feature, expected at least {least}. {CURE}"
            );
            self.breach("collapse", progress, diagnosis)?;
        }
        if let Some(least) = method.least_rank()
            && rank < least
        {
            let diagnosis = format!(
                "the embeddings of different images differ in only one direction: effective rank {rank:.2}, \
                 expected at least {least}. {CURE}"
            );
            self.breach("rank", progress, diagnosis)?;
        }
        Ok(())
    }

    /// Checks the `spread` of an epoch's embeddings, and the epoch's mean loss against chance level.
    pub fn epoch<M: Method>(
        &mut self,
        spread: Option<Spread>,
        loss: f64,
        method: &M,
        progress: &Progress,
    ) -> Result<(), PretrainError> {
        if self.mode == CanaryMode::Off {
            return Ok(());
        }
        let done = progress.step + 1;
        if let Some(spread) = spread
            && done >= COLLAPSE_FROM
        {
            self.collapse(spread, method, progress)?;
        }
        if let Some(chance) = method.random_guess_loss()
            && done >= CHANCE_FROM.max(self.steps / 2)
            && loss > BELOW_CHANCE * chance
        {
            let diagnosis = format!(
                "the loss of this epoch, {loss:.4}, is that of random guessing ({chance:.4}): nothing is \
                 learned. Change the learning rate, or train longer"
            );
            self.breach("chance", progress, diagnosis)?;
        }
        Ok(())
    }
}
