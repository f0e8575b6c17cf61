//! The one training loop.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_data::{EpochPlan, Pixels, SampleSet, Sightings, ViewLoader};
use ssl_backdoor_model::ResNet;

use crate::checkpoint::Checkpoints;
use crate::method::{Method, Progress};
use crate::metrics::JsonLines;
use crate::{PretrainError, Sgd};

/// Called after each epoch with the encoder in evaluation mode and the epoch from 0; what it
/// returns joins the epoch's line in `metrics.jsonl`.
pub type OnEpoch<'a> = dyn FnMut(&ResNet, usize) -> Result<Map<String, Value>, Box<dyn std::error::Error + Send + Sync>>
    + 'a;

/// One training: on what, and where its files go.
pub struct Training<'a> {
    /// The training images, as the victim finds them.
    pub set: SampleSet,
    /// Seed of initial weights, order and views.
    pub seed: u64,
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
}

/// How a method is trained: SGD over batches of views.
pub struct Recipe {
    /// What the method sees of an image.
    pub views: Arc<dyn Views>,
    /// Images in a step.
    pub batch: usize,
    /// Learning rate of each step; its length is the number of steps.
    pub lr: Vec<f64>,
    /// What a step does.
    pub sgd: Sgd,
    /// Epochs between two checkpoints.
    pub checkpoint_every: usize,
}

/// Trains `method` (on the autodiff side of the device), or goes on from the last checkpoint, and
/// returns its encoder in evaluation mode.
///
/// # Errors
/// A loss that is not finite, an image that cannot be read, a file that cannot be written, or
/// whatever `on_epoch` gives. The last checkpoint is kept.
pub fn train<M: Method>(
    training: &Training<'_>,
    recipe: &Recipe,
    mut method: M,
    on_epoch: &mut OnEpoch<'_>,
) -> Result<ResNet, PretrainError> {
    let device = &training.device.clone().autodiff();
    let Recipe { lr, batch, .. } = recipe;
    let plan = EpochPlan { seed: training.seed, images: training.set.len(), batch: *batch };
    let steps_per_epoch = plan.steps_per_epoch();
    let mut optimizer = ModuleOptimizer::from(recipe.sgd);

    let checkpoints = Checkpoints::new(training.folder.join("checkpoint"), training.identity);
    let start = match checkpoints.latest()? {
        None => 0,
        Some((step, folder)) => {
            (method, optimizer) = checkpoints.load(&folder, method, optimizer)?;
            step
        }
    };
    let metrics = JsonLines::open(&training.folder.join("metrics.jsonl"), start)?;
    let timing = JsonLines::open(&training.folder.join("timing.jsonl"), start)?;

    let (set, views) = (training.set.clone(), recipe.views.clone());
    let mut loader = ViewLoader::start(set, views, plan, start..lr.len(), training.workers);
    let bar = progress_bar(training.label, start, lr.len());

    let mut meter = Meter::new();
    for step in start..lr.len() {
        let progress = Progress { seed: training.seed, step, epoch: step / steps_per_epoch };
        let waiting = Instant::now();
        let Some(batch) = loader.next() else { break };
        let batch = batch?;
        meter.waited += waiting.elapsed().as_secs_f64();

        let views = batch.views;
        let views = views.into_iter().map(|pixels| to_tensor(pixels, device)).collect();
        method = method.before_step(&progress);
        let out = method.forward(views, &progress);
        let loss: f32 = out.loss.clone().into_scalar();
        if !loss.is_finite() {
            bar.abandon();
            let epoch = progress.epoch;
            return Err(PretrainError::Loss { loss, step, epoch, lr: lr[step] });
        }
        let grads = GradientsParams::from_grads(out.loss.backward(), &method);
        method = optimizer.step(lr[step], method, grads);
        method = method.after_step(out.keys, &progress);

        meter.losses.push(loss);
        meter.sightings.merge(&batch.sightings);
        bar.set_message(format!("loss {loss:.3}"));
        bar.inc(1);
        let done = step + 1;
        if done.is_multiple_of(steps_per_epoch) {
            timing.append(&meter.timing(done, plan.batch, training.workers))?;
            let mut line = meter.epoch(progress.epoch, done, lr[step]);
            let extra = on_epoch(&method.encoder().valid(), progress.epoch)
                .map_err(|source| PretrainError::OnEpoch { epoch: progress.epoch, source })?;
            line.extend(extra);
            metrics.append(&line)?;
            let due = (progress.epoch + 1).is_multiple_of(recipe.checkpoint_every);
            if due || done == lr.len() {
                checkpoints.save(done, &method, &optimizer)?;
            }
            meter = Meter::new();
        }
    }
    bar.finish_and_clear();
    Ok(method.encoder().valid())
}

/// `[batch, 3, size, size]` on `device`.
fn to_tensor(pixels: Pixels, device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels.values, pixels.shape), device)
}

/// Rate and ETA on a terminal, nothing elsewhere.
fn progress_bar(label: &str, start: usize, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_position(start as u64);
    let template = "{prefix:>12} {wide_bar} {pos}/{len} steps  {per_sec}  ETA {eta}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(label.to_owned());
    bar.reset_eta();
    bar
}

/// What is measured within an epoch.
struct Meter {
    since: Instant,
    waited: f64,
    losses: Vec<f32>,
    sightings: Sightings,
}

impl Meter {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            waited: 0.0,
            losses: Vec::new(),
            sightings: Sightings::default(),
        }
    }

    /// The epoch's line in `metrics.jsonl`: figures that the seed decides. Of the poisoned images:
    /// `trigger_views` counts them by the number of views in which the trigger survives (first: in
    /// none), `trigger_visible` is the mean visible share of its area, `trigger_covered` the mean share
    /// of a view that it covers, `trigger_hidden` the share of its patches that MAE hides.
    fn epoch(&self, epoch: usize, step: usize, lr: f64) -> Map<String, Value> {
        let total: f64 = self.losses.iter().map(|&l| f64::from(l)).sum();
        let mean = total / self.losses.len().max(1) as f64;
        let mut line = Map::from_iter([
            ("epoch".into(), epoch.into()),
            ("step".into(), step.into()),
            ("loss".into(), mean.into()),
            ("lr".into(), lr.into()),
        ]);
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
    fn timing(&self, step: usize, batch: usize, workers: usize) -> Map<String, Value> {
        let seconds = self.since.elapsed().as_secs_f64();
        let images = (self.losses.len() * batch) as f64;
        Map::from_iter([
            ("step".into(), step.into()),
            ("seconds".into(), seconds.into()),
            ("images_per_s".into(), (images / seconds).into()),
            ("wait_share".into(), (self.waited / seconds).into()),
            ("workers".into(), workers.into()),
        ])
    }
}
