//! The `[pretrain]` table, and pretraining as it says.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_model::{EncoderConfig, ResNet};

use crate::method::MethodConfig;
use crate::moco::Moco;
use crate::train::{OnEpoch, Recipe, Training, train};
use crate::{PretrainError, Sgd, schedule};

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

/// The encoder of a run before any training, in evaluation mode: both twins start from it.
pub fn initial_encoder(config: &PretrainConfig, seed: u64, device: &Device) -> ResNet {
    let mut rng = chance::rng(seed, Purpose::Init, 0, 0, 0);
    config.encoder.init(&mut rng, device).valid()
}

/// Trains the method of `config` on views of `size` pixels, or goes on from the last checkpoint, and
/// returns the encoder in evaluation mode.
///
/// # Errors
/// As [`train`].
pub fn pretrain(
    config: &PretrainConfig,
    size: u32,
    training: &Training<'_>,
    on_epoch: &mut OnEpoch<'_>,
) -> Result<ResNet, PretrainError> {
    let device = training.device.clone().autodiff();
    let blur = config.blur.unwrap_or(size > BLUR_ABOVE);
    let steps_per_epoch = training.set.len() / config.batch;
    let recipe = Recipe {
        views: config.method.views(size, config.crop, blur),
        batch: config.batch,
        lr: schedule::cosine_per_epoch(config.lr, config.epochs, steps_per_epoch),
        sgd: Sgd { momentum: config.momentum, weight_decay: config.weight_decay },
        checkpoint_every: config.checkpoint_every,
    };
    match &config.method {
        method @ MethodConfig::MocoV2 { .. } => {
            let moco = Moco::new(method, &config.encoder, training.seed, &device);
            train(training, &recipe, moco, on_epoch)
        }
    }
}
