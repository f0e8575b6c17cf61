//! The settings of CompReSS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::EpochPlan;
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_ssl::{CanaryMode, Schedule, TrainConfig, at_shares};

use crate::Budget;

/// Settings of CompReSS. The defaults are those of the reference code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompressConfig {
    /// Seed of the clean parts and of the trainings. As an axis of a sweep, it defends one victim several times.
    /// Default: the experiment's `seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Shares of the training set that the defender knows to be clean, each with its own student. Range: above 0, at
    /// most 1.
    #[schemars(inner(range(max = 1)))]
    pub clean: Vec<f64>,
    /// Which bank the student's similarities refer to.
    pub variant: Variant,
    /// Passes over the clean part.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: usize,
    /// Optimisation steps in place of `epochs`, rounded up to whole epochs. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub steps: Option<usize>,
    /// Images in a step, at most the size of the smallest clean part.
    #[schemars(range(min = 2))]
    pub batch: usize,
    /// Learning rate; multiplied by 0.2 after 90/130 and 120/130 of the epochs.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// EMA momentum of the student's copy.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Temperature of both softmaxes.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Largest number of rows of a bank, `batch` or more; never more than the images of the clean part.
    #[schemars(range(min = 2))]
    pub bank: usize,
    /// What happens when a canary fails.
    pub canaries: CanaryMode,
    /// Controls at the same steps and batch, for each clean share. Only for `compress`.
    pub controls: Vec<Control>,
    /// Also trains students on a part as large as the first clean share, of which this share is poisoned.
    /// Only for `compress`. Range: above 0, below 1.
    pub poisoned: Vec<f64>,
}

/// Which bank the student's similarities refer to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// A bank of the student, filled by its EMA copy.
    #[default]
    TwoQueues,
    /// The teacher's bank, through a linear layer to the teacher's space.
    OneQueue,
    /// A bank of the student, filled by the student.
    TwoQueuesNoMomentum,
}

/// A control of CompReSS: the same clean part, the same number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// The backdoored encoder, trained further by its own method.
    FineTune,
    /// A new encoder, trained by the victim's method.
    Scratch,
    /// A student of the clean twin.
    DistilClean,
}

impl Default for CompressConfig {
    fn default() -> Self {
        Self {
            seed: None,
            clean: vec![0.25, 0.10, 0.05],
            variant: Variant::TwoQueues,
            epochs: 130,
            steps: None,
            batch: 256,
            lr: 0.01,
            momentum: 0.999,
            temperature: 0.04,
            bank: 128_000,
            canaries: CanaryMode::Stop,
            controls: Vec::new(),
            poisoned: Vec::new(),
        }
    }
}

/// Lowest and highest share of an image's area that a crop takes.
const CROP: (f64, f64) = (0.08, 1.0);
/// Shares of the epochs after which the learning rate falls, and the factor it falls by.
const DROPS: [f64; 2] = [90.0 / 130.0, 120.0 / 130.0];
const DROP: f64 = 0.2;

impl CompressConfig {
    /// Checks every value; `images` is the size of the training set (`None` if it is not known yet).
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn check(&self, images: Option<usize>) -> Result<(), OutOfRange> {
        self.budget().check(&self.clean, images)?;
        let fits = self.poisoned.iter().all(|share| *share > 0.0 && *share < 1.0);
        let allowed = "a list of shares above 0 and below 1";
        require(fits, "poisoned", format!("{:?}", self.poisoned), allowed)?;
        require(self.lr.is_finite() && self.lr > 0.0, "lr", self.lr, "above 0")?;
        require((0.0..=1.0).contains(&self.momentum), "momentum", self.momentum, "0 to 1")?;
        let fits = self.temperature > 0.0 && self.temperature <= 100.0;
        require(fits, "temperature", self.temperature, "above 0, at most 100")?;
        let allowed = format!("batch = {} or more", self.batch);
        require(self.bank >= self.batch, "bank", self.bank, allowed)
    }

    /// Checks every value, and that a clean part of `images` images fills a batch.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn check_part(&self, images: usize) -> Result<(), OutOfRange> {
        self.check(None)?;
        self.budget().check_part(images)
    }

    /// The length of a training on a clean part.
    pub fn budget(&self) -> Budget {
        Budget { epochs: self.epochs, steps: self.steps, batch: self.batch }
    }

    /// The plan of a student's epochs on a clean part of `images` images: as in the reference, the last batch of an
    /// epoch holds the remaining images.
    pub fn plan(&self, seed: u64, images: usize) -> EpochPlan {
        self.budget().plan(seed, images)
    }

    /// Epochs on a clean part of `images` images.
    pub fn epochs_on(&self, images: usize) -> usize {
        self.budget().epochs_on(images)
    }

    /// Steps of a student's whole training on a clean part of `images` images.
    pub fn steps_on(&self, images: usize) -> usize {
        self.budget().steps_on(images)
    }

    /// The training of a student on a clean part of `images` images: SGD with a weight decay of 1e-4 on all
    /// parameters, as in the reference.
    pub fn training(&self, images: usize) -> TrainConfig {
        let epochs = self.epochs_on(images);
        let drops = at_shares(epochs, &DROPS);
        TrainConfig {
            schedule: Schedule::Steps { drops, factor: DROP, warmup_steps: 0 },
            crop: CROP,
            drop_last: Some(self.plan(0, images).drop_last),
            // About twenty checkpoints in all, because epochs on a small part are short.
            checkpoint_every: (epochs / 20).max(1),
            canaries: self.canaries,
            ..TrainConfig::sgd(epochs, self.batch, self.lr)
        }
    }

    /// Rows of a bank for `images` clean images: a multiple of the batch, at most all of them.
    pub(crate) fn bank_rows(&self, images: usize) -> usize {
        let batch = self.batch.max(1);
        self.bank.min(images) / batch * batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bank_never_outgrows_the_clean_part() {
        let config = CompressConfig { batch: 100, ..CompressConfig::default() };
        assert_eq!(config.bank_rows(1_234), 1_200);
        assert_eq!(config.bank_rows(1_000_000), 128_000);
        assert!(config.check(Some(2_000)).is_ok());
        assert_eq!(config.epochs_on(500), 130);
        let steps = CompressConfig { steps: Some(828), batch: 64, ..CompressConfig::default() };
        // 24, 10 and 5 steps in an epoch.
        assert_eq!([1500, 600, 300].map(|images| steps.epochs_on(images)), [35, 83, 166]);
        assert_eq!([1500, 600, 300].map(|images| steps.steps_on(images)), [840, 830, 830]);
        let message = config.check(Some(1_000)).unwrap_err().to_string();
        assert!(message.contains("batch = 100") && message.contains("50 images"));
    }

    #[test]
    fn review_1_09_the_last_partial_batch_is_kept() {
        let config = CompressConfig::default();
        // 25 % of ImageNet-100: 123 whole batches of 256 and one of 184; a single remaining image is not a batch.
        let images = |n| config.plan(1, n);
        assert_eq!((images(31_672).steps_per_epoch(), images(31_672).images_in(123)), (124, 184));
        assert_eq!(images(257).steps_per_epoch(), 1);
        assert_eq!(config.steps_on(31_672), 130 * 124);
    }

    #[test]
    fn review_2_06_a_callers_mistakes_are_errors() {
        let config = CompressConfig { batch: 64, ..CompressConfig::default() };
        assert!(config.check_part(64).is_ok());
        let message = config.check_part(63).unwrap_err().to_string();
        assert!(message.contains("batch = 64") && message.contains("63 images"), "{message}");
        let none = CompressConfig { batch: 0, steps: Some(3), ..CompressConfig::default() };
        assert!(none.check_part(10).is_err());
        assert_eq!((none.bank_rows(10), none.steps_on(10)), (10, 0));
        none.epochs_on(0);
    }
}
