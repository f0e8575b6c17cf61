//! The `[pretrain]` table, and pretraining as it says.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{MEAN, STD};
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_data::{Draws, EpochPlan};
use ssl_backdoor_model::{
    Encoder, EncoderConfig, EncoderHeader, Interpolation, Preprocessing, load_trainable,
};

use crate::PretrainError;
use crate::canary::CanaryMode;
use crate::learning_rate::LearningRate;
use crate::method::{Method, MethodConfig, WithMethod, require};
use crate::optimizer::{Decayed, OptimizerConfig};
use crate::schedule::Schedule;
use crate::train::{OnEpoch, Recipe, Training, train};

/// The `[pretrain]` table, with what the protocol says of the method where the file is silent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "File")]
pub struct PretrainConfig {
    /// The self-supervised method.
    pub method: MethodConfig,
    /// The network it trains.
    pub encoder: EncoderConfig,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a step.
    pub batch: usize,
    /// Learning rate before the schedule, as `lr` or as `base_lr`.
    #[serde(flatten)]
    pub lr: LearningRate,
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
    /// Leave out the images at the end of an epoch that fill no whole batch. `false` is possible for Jigsaw and RotNet
    /// alone and their default, as in their references: those images are a smaller batch, unless it would be a single
    /// image. The other methods always leave them out; the key is then absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_last: Option<bool>,
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
    base_lr: Option<f64>,
    weight_decay: Option<f64>,
    decayed: Option<Decayed>,
    optimizer: Option<OptimizerConfig>,
    schedule: Option<Schedule>,
    crop: Option<(f64, f64)>,
    blur: Option<bool>,
    drop_last: Option<bool>,
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

impl TryFrom<File> for PretrainConfig {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        let defaults = file.method.settings().defaults(file.epochs);
        let lr = match (file.lr, file.base_lr) {
            (None, None) => defaults.lr,
            (Some(lr), None) => LearningRate::Fixed(lr),
            (None, Some(lr)) => LearningRate::Base(lr),
            (Some(lr), Some(base)) => {
                return Err(format!(
                    "pretrain.lr = {lr} and pretrain.base_lr = {base} exclude each other: \
                     base_lr stands for lr = base_lr * pretrain.batch / 256"
                ));
            }
        };
        Ok(Self {
            method: file.method,
            encoder: file.encoder,
            epochs: file.epochs,
            batch: file.batch.unwrap_or(defaults.batch),
            lr,
            weight_decay: file.weight_decay.unwrap_or(defaults.weight_decay),
            decayed: file.decayed.unwrap_or(defaults.decayed),
            optimizer: file.optimizer.unwrap_or(defaults.optimizer),
            schedule: file.schedule.unwrap_or(defaults.schedule),
            crop: file.crop.unwrap_or(defaults.crop),
            blur: file.blur,
            drop_last: file.drop_last.or((!defaults.drop_last).then_some(false)),
            precision: file.precision,
            checkpoint_every: file.checkpoint_every,
            keep: file.keep,
            canaries: file.canaries,
        })
    }
}

/// Above this side the views are blurred unless the config says otherwise.
const BLUR_ABOVE: u32 = 64;

impl PretrainConfig {
    /// The same training over `epochs` epochs in batches of `batch`. A schedule that counts epochs scales with them,
    /// a base learning rate with the batch.
    pub fn with_budget(&self, epochs: usize, batch: usize) -> Self {
        let schedule = self.schedule.scaled(self.epochs, epochs);
        let checkpoint_every = (epochs / 20).max(1);
        Self { epochs, batch, schedule, checkpoint_every, ..self.clone() }
    }

    /// The learning rate before the schedule, for this batch.
    pub fn learning_rate(&self) -> f64 {
        self.lr.of(self.batch)
    }

    /// How the epochs go through a training set of `images` images.
    pub fn plan(&self, seed: u64, images: usize) -> EpochPlan {
        let (batch, drop_last) = (self.batch, self.drop_last.unwrap_or(true));
        EpochPlan { seed, images, batch, drop_last, draws: Draws::PRETRAIN }
    }

    /// Steps of the whole training on `images` images.
    pub fn steps(&self, images: usize) -> usize {
        self.epochs * self.plan(0, images).steps_per_epoch()
    }

    /// Checks every value; `images` is the size of the training set (`None` if it is not known yet), `size` their side
    /// in pixels.
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the key.
    pub fn check(&self, images: Option<usize>, size: u32) -> Result<(), PretrainError> {
        let fits = (1..=100_000).contains(&self.epochs);
        require(fits, "pretrain.epochs", self.epochs, "1 to 100,000")?;
        let fits = (2..=65_536).contains(&self.batch) && images.is_none_or(|n| self.batch <= n);
        let most = images.map(|n| format!(" and at most the {n} training images"));
        let allowed = format!("2 to 65,536{}", most.unwrap_or_default());
        require(fits, "pretrain.batch", self.batch, allowed)?;
        let (key, lr) = self.lr.key();
        require(lr.is_finite() && lr > 0.0, key, lr, "above 0")?;
        let keeps = !self.method.settings().defaults(self.epochs).drop_last;
        let drops = self.drop_last.unwrap_or(true);
        let allowed = "only jigsaw and rotnet can train on a batch that is not whole";
        require(drops || keeps, "pretrain.drop_last", drops, allowed)?;
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
        self.encoder.check().map_err(PretrainError::Encoder)?;
        self.method.settings().check(self)?;
        let views = self.method.settings().views(self, size);
        // Jigsaw trains on tiles; every method is probed on whole images.
        self.encoder.check_size(views.size()).map_err(PretrainError::Encoder)?;
        self.encoder.check_size(size).map_err(PretrainError::Encoder)
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
    let plan = config.plan(training.seed, training.set.len());
    let recipe = &Recipe {
        views: config.method.settings().views(config, size),
        batch: plan.batch,
        drop_last: plan.drop_last,
        lr: config.schedule.rates(config.learning_rate(), config.epochs, plan.steps_per_epoch()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<PretrainConfig, String> {
        let encoder =
            "encoder = { kind = \"vit\", dim = 8, depth = 1, heads = 2, patch = 4 }\nepochs = 10\n";
        toml::from_str(&format!("{encoder}{text}")).map_err(|e| e.to_string())
    }

    const MAE: &str = "method = { kind = \"mae\" }\n";

    #[test]
    fn review_1_03_a_base_rate_follows_the_batch_and_a_fixed_one_does_not() {
        let mae = config(MAE).unwrap();
        assert_eq!((mae.batch, mae.lr), (4096, LearningRate::Base(1.5e-4)));
        assert!((mae.learning_rate() - 2.4e-3).abs() < 1e-15);
        // In the file …
        let smaller = config(&format!("{MAE}batch = 512\n")).unwrap();
        assert!((smaller.learning_rate() - 3e-4).abs() < 1e-15);
        let other = config(&format!("{MAE}batch = 512\nbase_lr = 1e-3\n")).unwrap();
        assert!((other.learning_rate() - 2e-3).abs() < 1e-15);
        // … and in a control of the defence.
        assert!((other.with_budget(5, 64).learning_rate() - 2.5e-4).abs() < 1e-15);
        let fixed = config(&format!("{MAE}batch = 512\nlr = 1e-3\n")).unwrap();
        assert_eq!((fixed.learning_rate(), fixed.with_budget(5, 64).learning_rate()), (1e-3, 1e-3));
        // No other reference scales its rate.
        let byol = config("method = { kind = \"byol\" }\nbatch = 32\n").unwrap();
        assert_eq!(byol.lr, LearningRate::Fixed(2e-3));
        let base = config("method = { kind = \"byol\" }\nbatch = 32\nbase_lr = 1e-3").unwrap();
        assert_eq!(base.learning_rate(), 1.25e-4);
    }

    #[test]
    fn review_1_03_a_resolved_config_is_the_same_training() {
        for more in
            ["", "lr = 1e-3", "base_lr = 1e-3", "batch = 512", "batch = 512\nbase_lr = 1e-3"]
        {
            let read = config(&format!("{MAE}{more}\n")).unwrap();
            let text = toml::to_string(&read).unwrap();
            assert_eq!(toml::from_str::<PretrainConfig>(&text).unwrap(), read, "{text}");
            let keys = ["\nlr = ", "\nbase_lr = "].map(|key| text.matches(key).count());
            assert_eq!(keys.iter().sum::<usize>(), 1, "{text}");
        }
        // Jigsaw and RotNet say what becomes of the last batch; older configs of other methods keep their text.
        let of = |kind: &str| config(&format!("method = {{ kind = \"{kind}\" }}")).unwrap();
        for (kind, says) in
            [("rotnet", true), ("jigsaw", true), ("moco-v2", false), ("byol", false)]
        {
            let (read, text) = (of(kind), toml::to_string(&of(kind)).unwrap());
            assert_eq!(toml::from_str::<PretrainConfig>(&text).unwrap(), read, "{text}");
            assert_eq!(text.contains("drop_last = false"), says, "{text}");
            assert!(!text.contains("bn_groups"), "{text}");
        }
    }

    #[test]
    fn review_1_03_both_rates_at_once_are_refused() {
        let message = config(&format!("{MAE}lr = 1e-3\nbase_lr = 1e-4\n")).unwrap_err();
        let says = |word| message.contains(word);
        assert!(says("pretrain.lr = 0.001") && says("pretrain.base_lr = 0.0001"), "{message}");
        let mae = config(&format!("{MAE}base_lr = 0\n"));
        let message = mae.unwrap().check(None, 32).unwrap_err().to_string();
        assert!(message.contains("pretrain.base_lr = 0 "), "{message}");
    }

    #[test]
    fn review_1_06_groups_follow_the_batch_unless_they_are_given() {
        let groups = |text: &str| {
            let config = config(text).unwrap();
            let of = |config: &PretrainConfig| config.method.settings().bn_groups(config.batch);
            (of(&config), of(&config.with_budget(3, 50)))
        };
        assert_eq!(groups("method = { kind = \"moco-v2\" }"), (2, 1));
        assert_eq!(groups("method = { kind = \"byol\" }"), (4, 1));
        assert_eq!(groups("method = { kind = \"msf\" }"), (4, 1));
        assert_eq!(groups("method = { kind = \"moco-v2\", bn_groups = 1 }"), (1, 1));
        assert_eq!(groups("method = { kind = \"moco-v2\", bn_groups = 2 }\nbatch = 16"), (2, 2));
        assert_eq!(groups("method = { kind = \"rotnet\" }"), (1, 1));
    }

    #[test]
    fn review_2_03_the_number_of_images_is_named_once_it_is_known() {
        let config = config(&format!("{MAE}batch = 1\n")).unwrap();
        let message = |images| config.check(images, 32).unwrap_err().to_string();
        assert_eq!(message(None), "pretrain.batch = 1 is out of range: 2 to 65,536");
        assert!(message(Some(50)).ends_with("2 to 65,536 and at most the 50 training images"));
    }
}
