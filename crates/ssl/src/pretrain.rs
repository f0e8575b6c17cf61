//! The one pretraining loop.

use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_data::{EpochPlan, Pixels, SampleSet, ViewLoader};
use ssl_backdoor_model::{EncoderConfig, ResNet};

use crate::checkpoint::Checkpoints;
use crate::method::{Method, MethodConfig, Progress};
use crate::metrics::JsonLines;
use crate::moco::Moco;
use crate::{PretrainError, schedule};

/// The `[pretrain]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// The self-supervised method.
    pub method: MethodConfig,
    /// The network it trains.
    pub encoder: EncoderConfig,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a step.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Learning rate at the start; follows a cosine per epoch.
    #[serde(default = "lr")]
    pub lr: f64,
    /// SGD momentum.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Weight decay on all parameters.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// Share of the area that a crop takes, low and high.
    #[serde(default = "crop")]
    pub crop: (f64, f64),
    /// Gaussian blur in the views; absent = on above 64 px.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blur: Option<bool>,
    /// Epochs between two checkpoints.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: usize,
}

fn batch() -> usize {
    256
}
fn lr() -> f64 {
    0.06
}
fn momentum() -> f64 {
    0.9
}
fn weight_decay() -> f64 {
    1e-4
}
fn crop() -> (f64, f64) {
    (0.2, 1.0)
}
fn checkpoint_every() -> usize {
    1
}

/// Above this side the views are blurred unless the config says otherwise.
const BLUR_ABOVE: u32 = 64;

impl PretrainConfig {
    /// Checks every value; `images` is the size of the training set.
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the key.
    pub fn check(&self, images: usize) -> Result<(), PretrainError> {
        let range = |key, value: String, allowed: &str| {
            Err(PretrainError::Range { key, value, allowed: allowed.into() })
        };
        if !(1..=100_000).contains(&self.epochs) {
            return range("pretrain.epochs", self.epochs.to_string(), "1 to 100,000");
        }
        if !(2..=65_536).contains(&self.batch) || self.batch > images {
            let allowed = format!("2 to 65,536 and at most the {images} training images");
            return range("pretrain.batch", self.batch.to_string(), &allowed);
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return range("pretrain.lr", self.lr.to_string(), "above 0");
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return range("pretrain.momentum", self.momentum.to_string(), "0 to below 1");
        }
        if !(0.0..=1.0).contains(&self.weight_decay) {
            return range("pretrain.weight_decay", self.weight_decay.to_string(), "0 to 1");
        }
        let (low, high) = self.crop;
        if !(low > 0.0 && low <= high && high <= 1.0) {
            let value = format!("[{low}, {high}]");
            return range("pretrain.crop", value, "0 < low <= high <= 1 (shares of the area)");
        }
        if self.checkpoint_every == 0 {
            return range("pretrain.checkpoint_every", "0".into(), "1 or more epochs");
        }
        self.encoder.check()?;
        self.method.check(self.batch)
    }
}

/// Called after each epoch with the encoder in evaluation mode and the epoch from 0; what it
/// returns joins the epoch's line in `metrics.jsonl`.
pub type OnEpoch<'a> = dyn FnMut(&ResNet, usize) -> Result<Map<String, Value>, Box<dyn std::error::Error + Send + Sync>>
    + 'a;

/// One training: what is trained on what, and where its files go.
pub struct Pretraining<'a> {
    /// The `[pretrain]` table, checked.
    pub config: &'a PretrainConfig,
    /// The training images, as the victim finds them.
    pub set: SampleSet,
    /// Side of a view in pixels.
    pub size: u32,
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

/// The encoder of a run before any training, in evaluation mode: both twins start from it.
pub fn initial_encoder(config: &PretrainConfig, seed: u64, device: &Device) -> ResNet {
    let mut rng = chance::rng(seed, Purpose::Init, 0, 0, 0);
    config.encoder.init(&mut rng, device).valid()
}

/// Trains, or goes on from the last checkpoint, and returns the encoder in evaluation mode.
///
/// # Errors
/// A loss that is not finite, an image that cannot be read, a file that cannot be written, or
/// whatever `on_epoch` gives. The last checkpoint is kept.
pub fn pretrain(
    training: &Pretraining<'_>,
    on_epoch: &mut OnEpoch<'_>,
) -> Result<ResNet, PretrainError> {
    let device = training.device.clone().autodiff();
    let PretrainConfig { method, encoder, .. } = training.config;
    match method {
        MethodConfig::MocoV2 { .. } => {
            run(training, Moco::new(method, encoder, training.seed, &device), &device, on_epoch)
        }
    }
}

fn sgd(config: &PretrainConfig) -> ModuleOptimizer {
    // Burn's default dampening is 0.1; PyTorch and the reference have none.
    let momentum = MomentumConfig::new().with_momentum(config.momentum).with_dampening(0.0);
    SgdConfig::new()
        .with_momentum(Some(momentum))
        .with_weight_decay(Some(WeightDecayConfig::new(config.weight_decay as f32)))
        .init()
}

fn run<M: Method>(
    training: &Pretraining<'_>,
    mut method: M,
    device: &Device,
    on_epoch: &mut OnEpoch<'_>,
) -> Result<ResNet, PretrainError> {
    let config = training.config;
    let plan = EpochPlan { seed: training.seed, images: training.set.len(), batch: config.batch };
    let steps_per_epoch = plan.steps_per_epoch();
    let lr = schedule::cosine_per_epoch(config.lr, config.epochs, steps_per_epoch);
    let mut optimizer = sgd(config);

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

    let blur = config.blur.unwrap_or(training.size > BLUR_ABOVE);
    let views = config.method.views(training.size, config.crop, blur);
    let set = training.set.clone();
    let mut loader = ViewLoader::start(set, views, plan, start..lr.len(), training.workers);
    let bar = progress_bar(training.label, start, lr.len());

    let mut meter = Meter::new();
    for step in start..lr.len() {
        let progress = Progress { seed: training.seed, step, epoch: step / steps_per_epoch };
        let waiting = Instant::now();
        let Some(batch) = loader.next() else { break };
        let batch = batch?;
        meter.waited += waiting.elapsed().as_secs_f64();

        let views = batch.views.into_iter().map(|pixels| to_tensor(pixels, device)).collect();
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
        bar.set_message(format!("loss {loss:.3}"));
        bar.inc(1);
        let done = step + 1;
        if done.is_multiple_of(steps_per_epoch) {
            timing.append(&meter.timing(done, config.batch, training.workers))?;
            let mut line = meter.epoch(progress.epoch, done, lr[step]);
            let extra = on_epoch(&method.encoder().valid(), progress.epoch)
                .map_err(|source| PretrainError::OnEpoch { epoch: progress.epoch, source })?;
            line.extend(extra);
            metrics.append(&line)?;
            let due = (progress.epoch + 1).is_multiple_of(config.checkpoint_every);
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
}

impl Meter {
    fn new() -> Self {
        Self { since: Instant::now(), waited: 0.0, losses: Vec::new() }
    }

    /// The epoch's line in `metrics.jsonl`: figures that the seed decides.
    fn epoch(&self, epoch: usize, step: usize, lr: f64) -> Map<String, Value> {
        let total: f64 = self.losses.iter().map(|&l| f64::from(l)).sum();
        let mean = total / self.losses.len().max(1) as f64;
        Map::from_iter([
            ("epoch".into(), epoch.into()),
            ("step".into(), step.into()),
            ("loss".into(), mean.into()),
            ("lr".into(), lr.into()),
        ])
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
