//! The one training loop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_data::{Draws, EpochPlan, Pixels, SampleSet, Sightings, ViewLoader};
use ssl_backdoor_model::Encoder;

use crate::PretrainError;
use crate::canary::{Canaries, CanaryMode, Hook, Shadow, Spread};
use crate::checkpoint::{Checkpoints, Saved};
use crate::method::{Batch, Method, Progress};
use crate::metrics::JsonLines;
use crate::optimizer::{Decayed, OptimizerConfig};
use crate::pretrain::Precision;

/// Called after each epoch with the encoder in evaluation mode and the epoch from 0; what it
/// returns joins the epoch's line in `metrics.jsonl`.
pub type OnEpoch<'a> = dyn FnMut(&Encoder, usize) -> Result<Map<String, Value>, Box<dyn std::error::Error + Send + Sync>>
    + 'a;

/// One training: on what, and where its files go.
pub struct Training<'a> {
    /// The training images, as the victim finds them.
    pub set: SampleSet,
    /// Seed of initial weights, order and views.
    pub seed: u64,
    /// What the order and the views are drawn for: a defender who trains on with the same seed sees other crops.
    pub draws: Draws,
    /// A device without autodiff.
    pub device: &'a Device,
    /// Threads that prepare batches.
    pub workers: usize,
    /// Folder for `metrics.jsonl`, `timing.jsonl` and `checkpoint/`.
    pub folder: &'a Path,
    /// Hash of all that decides this training: a checkpoint of another is not resumed.
    pub identity: &'a str,
    /// What the progress bar says.
    pub label: &'a str,
    /// Once this is true, the training saves a checkpoint after the step it is in and ends.
    pub interrupt: &'a AtomicBool,
}

impl Training<'_> {
    /// How the epochs go through the images.
    pub fn plan(&self, batch: usize, drop_last: bool) -> EpochPlan {
        EpochPlan { seed: self.seed, images: self.set.len(), batch, drop_last, draws: self.draws }
    }
}

/// How a method is trained.
pub struct Recipe {
    /// What the method sees of an image.
    pub views: Arc<dyn Views>,
    /// Images in a step.
    pub batch: usize,
    /// Leave out the images at the end of an epoch that fill no whole batch (see [`EpochPlan`]).
    pub drop_last: bool,
    /// Learning rate of each step; its length is the number of steps.
    pub lr: Vec<f64>,
    /// What a step does.
    pub optimizer: OptimizerConfig,
    /// Weight decay.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decayed: Decayed,
    /// Epochs in all.
    pub epochs: usize,
    /// Epochs between two checkpoints.
    pub checkpoint_every: usize,
    /// How many checkpoints are kept.
    pub keep: usize,
    /// What a breach of a canary does.
    pub canaries: CanaryMode,
    /// Number format of the views, and with them of the encoder's products.
    pub precision: Precision,
}

/// Trains `method` (on the autodiff side of the device), or goes on from the last checkpoint, and
/// returns its encoder in evaluation mode.
///
/// # Errors
/// [`PretrainError::Interrupted`] if it was; a loss that is not finite, a canary that falls, an image that cannot be read, a file that cannot be written, or
/// whatever `on_epoch` gives. The last checkpoint is kept.
pub fn train<M: Method>(
    training: &Training<'_>,
    recipe: &Recipe,
    mut method: M,
    on_epoch: &mut OnEpoch<'_>,
) -> Result<Encoder, PretrainError> {
    let device = &training.device.clone().autodiff();
    if !training.device.supports_dtype(recipe.precision.dtype()) {
        return Err(PretrainError::Range {
            key: "pretrain.precision",
            value: format!("{:?}", recipe.precision).to_lowercase(),
            allowed: "this device computes in f32 alone".into(),
        });
    }
    let lr = &recipe.lr;
    let plan = training.plan(recipe.batch, recipe.drop_last);
    let steps_per_epoch = plan.steps_per_epoch();
    let Recipe { weight_decay, decayed, .. } = *recipe;
    let mut optimizer = recipe.optimizer.build(weight_decay, decayed, &method);
    let mut shadow = Shadow::new(recipe.optimizer, weight_decay, decayed);
    let mut canaries = Canaries::new(recipe.canaries, lr.len());

    let folder = training.folder.join("checkpoint");
    let checkpoints = Checkpoints::new(folder, training.identity, recipe.keep);
    let mut meter = Meter::new();
    let start = match checkpoints.latest()? {
        None => 0,
        Some((step, folder)) => {
            let state;
            (method, state) = checkpoints.load(&folder, method, optimizer)?;
            Saved { optimizer, shadow, meter } = state;
            step
        }
    };
    let metrics = JsonLines::open(&training.folder.join("metrics.jsonl"), start)?;
    let timing = JsonLines::open(&training.folder.join("timing.jsonl"), start)?;

    let (set, views) = (training.set.clone(), recipe.views.clone());
    let mut loader = ViewLoader::start(set, views, plan, start..lr.len(), training.workers);
    let bar = progress_bar(training.label, start, lr.len());

    for step in start..lr.len() {
        let (seed, epochs, epoch) = (training.seed, recipe.epochs, plan.epoch_of(step));
        let progress = Progress { seed, step, epoch, epochs, seen: plan.images_before(step) };
        let images = plan.images_in(step);
        let waiting = Instant::now();
        let Some(batch) = loader.next() else { break };
        let batch = batch?;
        meter.waited += waiting.elapsed().as_secs_f64();

        let views = batch.views;
        let dtype = recipe.precision.dtype();
        let views = views.into_iter().map(|pixels| to_tensor(pixels, device).cast(dtype)).collect();
        let views = Batch { views, ids: batch.ids, hidden: batch.hidden };
        let before = |method: M| method.before_step(&progress);
        method = canaries.follow(Hook::BeforeStep, method, &progress, before)?;
        let mut out = method.forward(views, &progress);
        let loss: f32 = out.loss.clone().into_scalar();
        if !loss.is_finite() {
            bar.abandon();
            let epoch = progress.epoch;
            return Err(PretrainError::Loss { loss, step, epoch, lr: lr[step] });
        }
        // Taken, not borrowed: while another holds the queue's rows, new ones cannot be written in place.
        canaries.negatives(&out.keys, out.negatives.take(), &progress)?;
        let grads = GradientsParams::from_grads(out.loss.backward(), &method);
        let norm = canaries.gradients(&method, &grads, &progress)?;
        let update = |method, grads| optimizer.step(lr[step], method, grads);
        method = canaries.update(&mut shadow, lr[step], method, grads, &progress, update)?;
        let after = |method: M| method.after_step(out.keys, &progress);
        method = canaries.follow(Hook::AfterStep, method, &progress, after)?;
        canaries.queues(&method, images, &progress)?;

        meter.images += images;
        meter.losses.push(loss);
        meter.norms.extend(norm);
        meter.accuracy.extend(out.accuracy.map(|share| share.into_scalar::<f32>()));
        meter.sightings.merge(&batch.sightings);
        bar.set_message(format!("loss {loss:.3}"));
        bar.inc(1);
        let done = step + 1;
        // A smaller batch at the end spreads otherwise: the last whole one is measured.
        if images == plan.batch && plan.images_in(done) < plan.batch
            || done.is_multiple_of(steps_per_epoch) && meter.spread.is_none()
        {
            meter.spread = canaries.spread(out.embeddings);
        }
        if done.is_multiple_of(steps_per_epoch) {
            timing.append(&meter.timing(done, training.workers))?;
            let last = images as f64 / plan.batch as f64;
            canaries.epoch(meter.spread, mean(&meter.losses, last), method.chance(), &progress)?;
            let mut line = meter.epoch(progress.epoch, done, lr[step], last);
            let extra = on_epoch(&method.encoder().valid(), progress.epoch)
                .map_err(|source| PretrainError::OnEpoch { epoch: progress.epoch, source })?;
            line.extend(extra);
            metrics.append(&line)?;
            meter = Meter::new();
        }
        let whole = done.is_multiple_of(steps_per_epoch);
        let due = whole && (progress.epoch + 1).is_multiple_of(recipe.checkpoint_every);
        let interrupted = training.interrupt.load(Ordering::Relaxed) && done < lr.len();
        if due || interrupted || done == lr.len() {
            checkpoints.save(done, &method, &optimizer, &shadow, &meter)?;
        }
        if interrupted {
            bar.abandon();
            return Err(PretrainError::Interrupted { step: done, steps: lr.len() });
        }
    }
    bar.finish_and_clear();
    BARS.remove(&bar);
    Ok(method.encoder().valid())
}

/// `[batch, 3, size, size]` on `device`.
fn to_tensor(pixels: Pixels, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels.values, pixels.shape), device)
}

/// The bars of all trainings in progress: two at once share the terminal.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Rate and ETA on a terminal, nothing elsewhere.
fn progress_bar(label: &str, start: usize, total: usize) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(total as u64).with_position(start as u64));
    let template = "{prefix:>12} {wide_bar} {pos}/{len} steps  {per_sec}  ETA {eta}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(label.to_owned());
    bar.reset_eta();
    bar
}

/// Mean over the images of batches of one size but for the last, which is `last` times as large.
fn mean(values: &[f32], last: f64) -> f64 {
    let Some((end, whole)) = values.split_last() else { return 0.0 };
    let sum = whole.iter().map(|&value| f64::from(value)).sum::<f64>() + last * f64::from(*end);
    sum / (whole.len() as f64 + last)
}

/// What is measured within an epoch; a checkpoint in its midst keeps all but the times.
#[derive(Serialize, Deserialize)]
pub(crate) struct Meter {
    #[serde(skip, default = "Instant::now")]
    since: Instant,
    #[serde(skip)]
    waited: f64,
    /// Images since then.
    #[serde(skip)]
    images: usize,
    losses: Vec<f32>,
    /// Norms of the gradients.
    norms: Vec<f32>,
    /// Shares of right answers of a pretext task.
    accuracy: Vec<f32>,
    /// How the embeddings of the last whole batch spread, once it is done.
    #[serde(default)]
    spread: Option<Spread>,
    sightings: Sightings,
}

impl Meter {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            waited: 0.0,
            images: 0,
            losses: Vec::new(),
            norms: Vec::new(),
            accuracy: Vec::new(),
            spread: None,
            sightings: Sightings::default(),
        }
    }

    /// The epoch's line in `metrics.jsonl`: figures that the seed decides. `grad_norm` is the mean norm
    /// of all gradients, `pretext_acc` the share of right answers in percent, `embedding_std` and
    /// `embedding_rank` tell how the embeddings of the last whole batch spread. Of the poisoned images:
    /// `trigger_views` counts them by the number of views in which the trigger survives (first: in
    /// none), `trigger_visible` is the mean visible share of its area, `trigger_covered` the mean share
    /// of a view that it covers, `trigger_hidden` the share of its patches that MAE hides.
    fn epoch(&self, epoch: usize, step: usize, lr: f64, last: f64) -> Map<String, Value> {
        let mut line = Map::from_iter([
            ("epoch".into(), epoch.into()),
            ("step".into(), step.into()),
            ("loss".into(), mean(&self.losses, last).into()),
            ("lr".into(), lr.into()),
        ]);
        if !self.norms.is_empty() {
            line.insert("grad_norm".into(), mean(&self.norms, 1.0).into());
        }
        if !self.accuracy.is_empty() {
            line.insert("pretext_acc".into(), (100.0 * mean(&self.accuracy, last)).into());
        }
        if let Some(Spread { std, rank }) = self.spread {
            line.insert("embedding_std".into(), std.into());
            line.insert("embedding_rank".into(), rank.into());
        }
        let seen = &self.sightings;
        if !seen.is_empty() {
            line.insert("trigger_views".into(), seen.by_views.clone().into());
            line.insert("trigger_visible".into(), seen.mean_visible().into());
            line.insert("trigger_covered".into(), seen.mean_covered().into());
        }
        if let Some(hidden) = seen.hidden_share() {
            line.insert("trigger_hidden".into(), hidden.into());
        }
        line
    }

    /// The epoch's line in `timing.jsonl`: figures of the machine.
    fn timing(&self, step: usize, workers: usize) -> Map<String, Value> {
        let (seconds, images) = (self.since.elapsed().as_secs_f64(), self.images as f64);
        Map::from_iter([
            ("step".into(), step.into()),
            ("seconds".into(), seconds.into()),
            ("images_per_s".into(), (images / seconds).into()),
            ("wait_share".into(), (self.waited / seconds).into()),
            ("workers".into(), workers.into()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn review_1_09_a_smaller_last_batch_counts_by_its_images() {
        // Batches of 8, 8 and 4 images.
        assert_eq!(mean(&[1.0, 2.0, 6.0], 0.5), (8.0 * 1.0 + 8.0 * 2.0 + 4.0 * 6.0) / 20.0);
        // Whole batches: the mean of the values.
        assert_eq!(mean(&[1.0, 2.0, 6.0], 1.0), 3.0);
        assert_eq!((mean(&[5.0], 0.25), mean(&[], 1.0)), (5.0, 0.0));
    }
}
