//! The `[pretrain]` table, and pretraining as it says.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{MEAN, STD};
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_model::{
    Encoder, EncoderConfig, EncoderHeader, Interpolation, Preprocessing, load_trainable,
};

use crate::PretrainError;
use crate::canary::CanaryMode;
use crate::method::{Method, MethodConfig, WithMethod, require};
use crate::optimizer::{Decayed, OptimizerConfig};
use crate::schedule::Schedule;
use crate::train::{OnEpoch, Recipe, Training, train};

/// The `[pretrain]` table, with what the protocol says of the method where the file is silent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "File")]
pub struct PretrainConfig {
    /// The self-supervised method.
    pub method: MethodConfig,
    /// The network it trains.
    pub encoder: EncoderConfig,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a step.
    pub batch: usize,
    /// Learning rate before the schedule.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decayed: Decayed,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// Share of the area that a crop takes, low and high (of no effect on Jigsaw).
    pub crop: (f64, f64),
    /// Gaussian blur in the views of MoCo v2, BYOL and MSF; absent = on above 64 px.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blur: Option<bool>,
    /// Epochs between two checkpoints.
    pub checkpoint_every: usize,
    /// How many checkpoints are kept.
    pub keep: usize,
    /// What a breach of a canary does.
    pub canaries: CanaryMode,
    /// Number format of the encoder's products.
    #[serde(skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
}

/// The number format that an encoder multiplies in while it trains. Weights, their gradients, the optimiser, statistics
/// of batch norm, heads and losses are in 32 bits always, and so is every network that is evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponents of 32, for devices that have it.
    Bf16,
}

impl Precision {
    fn is_full(&self) -> bool {
        *self == Self::F32
    }

    /// Burn's name of it.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    method: MethodConfig,
    encoder: EncoderConfig,
    epochs: usize,
    batch: Option<usize>,
    lr: Option<f64>,
    weight_decay: Option<f64>,
    decayed: Option<Decayed>,
    optimizer: Option<OptimizerConfig>,
    schedule: Option<Schedule>,
    crop: Option<(f64, f64)>,
    blur: Option<bool>,
    #[serde(default = "one")]
    checkpoint_every: usize,
    #[serde(default = "one")]
    keep: usize,
    #[serde(default)]
    canaries: CanaryMode,
    #[serde(default)]
    precision: Precision,
}

fn one() -> usize {
    1
}

impl From<File> for PretrainConfig {
    fn from(file: File) -> Self {
        let defaults = file.method.settings().defaults(file.epochs);
        let batch = file.batch.unwrap_or(defaults.batch);
        let scale = if defaults.lr_per_256 { batch as f64 / 256.0 } else { 1.0 };
        Self {
            method: file.method,
            encoder: file.encoder,
            epochs: file.epochs,
            batch,
            lr: file.lr.unwrap_or(defaults.lr * scale),
            weight_decay: file.weight_decay.unwrap_or(defaults.weight_decay),
            decayed: file.decayed.unwrap_or(defaults.decayed),
            optimizer: file.optimizer.unwrap_or(defaults.optimizer),
            schedule: file.schedule.unwrap_or(defaults.schedule),
            crop: file.crop.unwrap_or(defaults.crop),
            blur: file.blur,
            precision: file.precision,
            checkpoint_every: file.checkpoint_every,
            keep: file.keep,
            canaries: file.canaries,
        }
    }
}

/// Above this side the views are blurred unless the config says otherwise.
const BLUR_ABOVE: u32 = 64;

impl PretrainConfig {
    /// The same training over `epochs` epochs in batches of `batch`: where the schedule counts epochs, it
    /// scales along.
    pub fn with_budget(&self, epochs: usize, batch: usize) -> Self {
        let schedule = self.schedule.scaled(self.epochs, epochs);
        let checkpoint_every = (epochs / 20).max(1);
        Self { epochs, batch, schedule, checkpoint_every, ..self.clone() }
    }

    /// Checks every value; `images` is the size of the training set, `size` their side in pixels.
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the key.
    pub fn check(&self, images: usize, size: u32) -> Result<(), PretrainError> {
        let fits = (1..=100_000).contains(&self.epochs);
        require(fits, "pretrain.epochs", self.epochs, "1 to 100,000")?;
        let fits = (2..=65_536).contains(&self.batch) && self.batch <= images;
        let allowed = format!("2 to 65,536 and at most the {images} training images");
        require(fits, "pretrain.batch", self.batch, allowed)?;
        require(self.lr.is_finite() && self.lr > 0.0, "pretrain.lr", self.lr, "above 0")?;
        let decay = self.weight_decay;
        require((0.0..=1.0).contains(&decay), "pretrain.weight_decay", decay, "0 to 1")?;
        self.optimizer.check()?;
        self.schedule.check(self.epochs)?;
        let (low, high) = self.crop;
        let fits = low > 0.0 && low <= high && high <= 1.0;
        let allowed = "0 < low <= high <= 1 (shares of the area)";
        require(fits, "pretrain.crop", format!("[{low}, {high}]"), allowed)?;
        let every = self.checkpoint_every;
        require(every > 0, "pretrain.checkpoint_every", every, "1 or more epochs")?;
        require(self.keep > 0, "pretrain.keep", self.keep, "1 or more checkpoints")?;
        self.encoder.check()?;
        self.method.settings().check(self)?;
        let views = self.method.settings().views(self, size);
        // Jigsaw trains on tiles; every method is probed on whole images.
        self.encoder.check_size(views.size())?;
        Ok(self.encoder.check_size(size)?)
    }

    /// Are views of `size` pixels blurred, where the method blurs at all?
    pub fn blurs(&self, size: u32) -> bool {
        self.blur.unwrap_or(size > BLUR_ABOVE)
    }
}

/// The encoder of a run before any training, in evaluation mode: both twins start from it.
pub fn initial_encoder(config: &PretrainConfig, seed: u64, device: &Device) -> Encoder {
    let mut rng = chance::rng(seed, Purpose::Init, 0, 0, 0);
    config.encoder.init(&mut rng, device).valid()
}

/// What the encoder files of a run say: the network, and its images of `size` pixels a side.
pub fn encoder_header(encoder: EncoderConfig, size: u32) -> EncoderHeader {
    let interpolation = Interpolation::Bilinear;
    EncoderHeader::new(encoder, Preprocessing { size, mean: MEAN, std: STD, interpolation })
}

/// Trains the method of `config` on views of `size` pixels, or goes on from the last checkpoint, and
/// returns the encoder in evaluation mode. With `start`, the encoder begins with the weights of that file and
/// only the heads are new: fine-tuning by the same method.
///
/// # Errors
/// As [`train`]; and if `start` is no encoder of this config.
pub fn pretrain(
    config: &PretrainConfig,
    start: Option<&Path>,
    size: u32,
    training: &Training<'_>,
    on_epoch: &mut OnEpoch<'_>,
) -> Result<Encoder, PretrainError> {
    let device = training.device.clone().autodiff();
    let recipe = &Recipe {
        views: config.method.settings().views(config, size),
        batch: config.batch,
        lr: config.schedule.rates(config.lr, config.epochs, training.set.len() / config.batch),
        optimizer: config.optimizer,
        weight_decay: config.weight_decay,
        decayed: config.decayed,
        epochs: config.epochs,
        checkpoint_every: config.checkpoint_every,
        keep: config.keep,
        canaries: config.canaries,
        precision: config.precision,
    };
    let header = encoder_header(config.encoder, size);
    let job = Job { start, header, training, recipe, on_epoch };
    config.with_method(training.seed, &device, job)
}

/// What a training needs beside its method.
struct Job<'a, 'b> {
    start: Option<&'a Path>,
    header: EncoderHeader,
    training: &'a Training<'a>,
    recipe: &'a Recipe,
    on_epoch: &'a mut OnEpoch<'b>,
}

impl WithMethod for Job<'_, '_> {
    type Output = Encoder;

    fn on<M: Method>(self, method: M) -> Result<Encoder, PretrainError> {
        let Self { start, header, training, recipe, on_epoch } = self;
        let Some(start) = start else {
            return train(training, recipe, method, on_epoch);
        };
        let device = training.device.clone().autodiff();
        let read = || load_trainable(&header, start, &device);
        let method = method.start_from(read()?, read()?);
        train(training, recipe, method, on_epoch)
    }
}
