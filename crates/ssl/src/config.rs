//! The settings of the training loop that do not depend on the method. Each is declared here and nowhere else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::{Draws, EpochPlan};
use ssl_backdoor_fields::require;
use ssl_backdoor_model::{EncoderConfig, LarsConfig};

use crate::canary::CanaryMode;
use crate::error::PretrainError;
use crate::learning_rate::LearningRate;
use crate::optimizer::{OptimizerConfig, WeightDecayScope};
use crate::precision::Precision;
use crate::schedule::Schedule;
use crate::weight_decay::DecaySchedule;

/// Declares [`TrainConfig`] and `Table`, the table of a config file, in which each of these settings is optional. To
/// add a setting, add a line to the list below and a default to [`TrainConfig::sgd`].
macro_rules! train_config {
    ($(
        $(#[doc = $doc:literal])*
        $(#[serde($($serde:tt)*)])?
        $(#[schemars($($schemars:tt)*)])?
        $name:ident: $type:ty,
    )*) => {
        /// The settings of a training that do not depend on the method: the optimiser and its schedule, the batches,
        /// the views' crops, the checkpoints and the canaries.
        ///
        /// Start from [`TrainConfig::sgd`] and change fields with struct update syntax.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct TrainConfig {
            /// Passes over the training images.
            pub epochs: usize,
            /// Images in a step.
            pub batch: usize,
            /// Learning rate before the schedule, as `lr` or as `base_lr`.
            #[serde(flatten)]
            pub lr: LearningRate,
            $($(#[doc = $doc])* $(#[serde($($serde)*)])? pub $name: $type,)*
        }

        /// The `[pretrain]` table: the method, the network and the training. Absent keys take the values of the
        /// method's reference code.
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Table<M> {
            /// The self-supervised method.
            pub method: M,
            /// The network that it trains.
            pub encoder: EncoderConfig,
            /// Passes over the training images.
            #[schemars(range(min = 1, max = 100_000))]
            pub epochs: usize,
            /// Images in a step, at most the number of training images. Default: that of the method.
            #[schemars(range(min = 2, max = 65_536))]
            batch: Option<usize>,
            /// Learning rate before the schedule. Only one of `lr` and `base_lr` may be given. Default: that of the
            /// method.
            #[schemars(extend("exclusiveMinimum" = 0))]
            lr: Option<f64>,
            /// Learning rate for a batch of 256 images; it is scaled by `batch` / 256. Default: that of the
            /// method.
            #[schemars(extend("exclusiveMinimum" = 0))]
            base_lr: Option<f64>,
            $($(#[doc = $doc])* $(#[schemars($($schemars)*)])? $name: Option<$type>,)*
        }

        impl<M> Table<M> {
            /// The method, the encoder and the training settings of the table. Absent training settings have the
            /// values of `defaults`.
            pub fn resolve(
                self,
                defaults: TrainConfig,
            ) -> Result<(M, EncoderConfig, TrainConfig), PretrainError> {
                let lr = match (self.lr, self.base_lr) {
                    (None, None) => defaults.lr,
                    (Some(lr), None) => LearningRate::Fixed(lr),
                    (None, Some(lr)) => LearningRate::Base(lr),
                    (Some(lr), Some(base)) => return Err(PretrainError::TwoRates { lr, base }),
                };
                let mut train = TrainConfig {
                    epochs: self.epochs,
                    batch: self.batch.unwrap_or(defaults.batch),
                    lr,
                    $($name: self.$name.unwrap_or(defaults.$name),)*
                };
                // The method's default is for its own optimiser.
                if self.final_weight_decay.is_none() && !train.optimizer.decays_apart() {
                    train.final_weight_decay = None;
                }
                Ok((self.method, self.encoder, train))
            }
        }
    };
}

train_config! {
    /// Weight decay. Default: that of the method.
    #[schemars(range(min = 0.0, max = 1.0))]
    weight_decay: f64,
    /// Weight decay after the last step; it changes along half a cosine. Only with AdamW. Default: that of the method,
    /// for most none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    final_weight_decay: Option<f64>,
    /// The parameters that decay. Default: that of the method.
    decayed: WeightDecayScope,
    /// The optimiser. Default: that of the method.
    optimizer: OptimizerConfig,
    /// The schedule of the learning rate. Default: that of the method.
    schedule: Schedule,
    /// Share of the area of an image that a crop takes, lowest and highest; without effect on Jigsaw. Range: above 0, at
    /// most 1. Default: that of the method.
    #[schemars(inner(range(max = 1)))]
    crop: (f64, f64),
    /// Blurs the views of methods that compare views. Default: true above 64 px.
    #[serde(skip_serializing_if = "Option::is_none")]
    blur: Option<bool>,
    /// Leaves out the images at the end of an epoch that do not fill a batch. Otherwise they are a smaller batch, unless
    /// it would be a single image; only Jigsaw and RotNet can train on one. Default: false for Jigsaw and RotNet, else
    /// true.
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_last: Option<bool>,
    /// Number of parts in which a step processes its batch, to save memory: the gradients of the parts are averaged
    /// before the optimiser's step. A part has 2 images or more. For `moco-v2`, `byol`, `simsiam`, `jigsaw`, `rotnet`,
    /// `mae` and `swav`; the other methods compare the images of a batch and allow only 1. Batch norm uses the statistics
    /// of each part, as on several GPUs. Default: 1.
    #[serde(skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 32_768))]
    accumulate: usize,
    /// Epochs between two checkpoints. Default: 1.
    #[schemars(range(min = 1))]
    checkpoint_every: usize,
    /// Number of checkpoints that are kept. Default: 1.
    #[schemars(range(min = 1))]
    keep: usize,
    /// What happens when a canary fails. Default: `"stop"`.
    canaries: CanaryMode,
    /// Number format of the factors in the encoder's layers. Default: `"f32"`.
    #[serde(skip_serializing_if = "Precision::is_full")]
    precision: Precision,
}

fn is_one(parts: &usize) -> bool {
    *parts == 1
}

/// Views with a side above this, in pixels, are blurred unless the config says otherwise.
const BLUR_ABOVE: u32 = 64;

impl TrainConfig {
    /// Shared by most references: SGD with momentum 0.9, decay 1e-4 on all parameters, a cosine per epoch, crops of
    /// 0.2 to 1, whole batches. A checkpoint is due after each epoch, one is kept, and a failed canary stops the run.
    pub fn sgd(epochs: usize, batch: usize, lr: f64) -> Self {
        Self {
            epochs,
            batch,
            lr: LearningRate::Fixed(lr),
            weight_decay: 1e-4,
            final_weight_decay: None,
            decayed: WeightDecayScope::All,
            optimizer: OptimizerConfig::sgd(),
            schedule: Schedule::CosinePerEpoch {},
            crop: (0.2, 1.0),
            blur: None,
            drop_last: None,
            accumulate: 1,
            checkpoint_every: 1,
            keep: 1,
            canaries: CanaryMode::Stop,
            precision: Precision::F32,
        }
    }

    /// The settings that solo-learn's recipes for CIFAR share, and mostly also the references that train with large
    /// batches: LARS without decay of vectors, a learning rate of `base_lr` for 256 images, warm-up in ten of a
    /// thousand epochs, then a cosine, and crops of 0.08 to 1.
    pub(crate) fn lars(epochs: usize, batch: usize, base_lr: f64) -> Self {
        Self {
            lr: LearningRate::Base(base_lr),
            decayed: WeightDecayScope::Matrices,
            optimizer: OptimizerConfig::Lars(LarsConfig::new(0.02, true)),
            schedule: Schedule::warmed_cosine(epochs, 10.0 / 1000.0),
            crop: (0.08, 1.0),
            ..Self::sgd(epochs, batch, base_lr)
        }
    }

    /// The same training over `epochs` epochs in batches of `batch`. A schedule that counts epochs scales with them,
    /// a base learning rate with the batch; a checkpoint is due every `max(epochs / 20, 1)` epochs.
    pub fn with_budget(&self, epochs: usize, batch: usize) -> Self {
        let schedule = self.schedule.scaled(self.epochs, epochs);
        let checkpoint_every = (epochs / 20).max(1);
        Self { epochs, batch, schedule, checkpoint_every, ..self.clone() }
    }

    /// The learning rate before the schedule, for this batch.
    pub fn learning_rate(&self) -> f64 {
        self.lr.of(self.batch)
    }

    /// Images in a forward pass: a batch, or the smallest of its parts.
    pub(crate) fn part(&self) -> usize {
        self.batch / self.accumulate.max(1)
    }

    /// The schedule of the weight decay over `steps` steps, if it changes.
    pub(crate) fn decay_schedule(&self, steps: usize) -> Option<DecaySchedule> {
        let last = self.final_weight_decay?;
        Some(DecaySchedule::new(self.weight_decay, last, steps))
    }

    /// The learning rate of each step, for epochs of `steps_per_epoch` steps.
    pub fn rates(&self, steps_per_epoch: usize) -> Vec<f64> {
        self.schedule.rates(self.learning_rate(), self.epochs, steps_per_epoch)
    }

    /// Whether images that do not fill a batch at the end of an epoch are left out.
    pub fn drops_last(&self) -> bool {
        self.drop_last.unwrap_or(true)
    }

    /// The order and the batches of epochs over a training set of `images` images.
    pub fn plan(&self, seed: u64, images: usize) -> EpochPlan {
        let (batch, drop_last) = (self.batch, self.drops_last());
        EpochPlan { seed, images, batch, drop_last, draws: Draws::PRETRAIN }
    }

    /// Steps of the whole training on `images` images.
    pub fn steps(&self, images: usize) -> usize {
        self.epochs * self.plan(0, images).steps_per_epoch()
    }

    /// Whether views of `size` pixels are blurred, if the method uses blur at all.
    pub fn blurs(&self, size: u32) -> bool {
        self.blur.unwrap_or(size > BLUR_ABOVE)
    }

    /// Checks every value; `images` is the size of the training set (`None` if it is not known yet).
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the field.
    pub fn check(&self, images: Option<usize>) -> Result<(), PretrainError> {
        require(self.epochs > 0, "epochs", self.epochs, "1 or more")?;
        let fits = (2..=65_536).contains(&self.batch) && images.is_none_or(|n| self.batch <= n);
        let most = images.map(|n| format!(" and at most the {n} training images"));
        let allowed = format!("2 to 65,536{}", most.unwrap_or_default());
        require(fits, "batch", self.batch, allowed)?;
        let fits = (1..=self.batch / 2).contains(&self.accumulate);
        let allowed = format!("1 to {}: a part has 2 images or more", self.batch / 2);
        require(fits, "accumulate", self.accumulate, allowed)?;
        let (key, lr) = self.lr.key();
        require(lr.is_finite() && lr > 0.0, key, lr, "above 0")?;
        let decay = self.weight_decay;
        require((0.0..=1.0).contains(&decay), "weight_decay", decay, "0 to 1")?;
        if let Some(last) = self.final_weight_decay {
            require((0.0..=1.0).contains(&last), "final_weight_decay", last, "0 to 1")?;
            let fits = self.optimizer.decays_apart();
            let allowed = "none, unless optimizer.kind = \"adamw\"";
            require(fits, "final_weight_decay", last, allowed)?;
        }
        self.optimizer.check()?;
        self.schedule.check(self.epochs)?;
        let (low, high) = self.crop;
        let fits = low > 0.0 && low <= high && high <= 1.0;
        let allowed = "0 < low <= high <= 1 (shares of the area)";
        require(fits, "crop", format!("[{low}, {high}]"), allowed)?;
        let every = self.checkpoint_every;
        require(every > 0, "checkpoint_every", every, "1 or more epochs")?;
        Ok(require(self.keep > 0, "keep", self.keep, "1 or more checkpoints")?)
    }
}
