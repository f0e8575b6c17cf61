//! The settings of MIMIC, and distillation with them.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{ChainViews, Filter};
use ssl_backdoor_data::{EpochPlan, plain_batch, resized_set};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::{Encoder, EncoderConfig};
use ssl_backdoor_ssl::{
    CanaryMode, OptimizerConfig, PretrainError, Schedule, TrainConfig, TrainObserver, Training,
    train,
};

use crate::Budget;
use crate::information::Estimate;
use crate::mimic::{Mimic, STAGES, check_encoder, untrained};

/// Settings of MIMIC. The defaults are those of the reference code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MimicConfig {
    /// Seed of the clean parts and of the trainings. As an axis of a sweep, it defends one victim several times.
    /// Default: the experiment's `seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Shares of the training set that the defender knows to be clean, each with its own student. Range: above 0, at
    /// most 1.
    #[schemars(inner(range(max = 1)))]
    pub clean: Vec<f64>,
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
    /// Learning rate of Adam, constant.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// Temperature of the contrast between the two views.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Smallest weight of the attention of each of the four stages.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub attention: f64,
    /// Weight that the four stages share, in proportion to their mutual information with the final feature.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub information: f64,
    /// Passes over the clean part for each estimate of mutual information.
    #[schemars(range(min = 0, max = 100_000))]
    pub information_epochs: usize,
    /// What happens when a canary fails.
    pub canaries: CanaryMode,
}

impl Default for MimicConfig {
    fn default() -> Self {
        Self {
            seed: None,
            clean: vec![0.04],
            epochs: 1000,
            steps: None,
            batch: 128,
            lr: 1e-3,
            temperature: 0.5,
            attention: 1000.0,
            information: 10_000.0,
            information_epochs: 200,
            canaries: CanaryMode::Stop,
        }
    }
}

impl MimicConfig {
    /// Checks every value; `images` is the size of the training set (`None` if it is not known yet).
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn check(&self, images: Option<usize>) -> Result<(), OutOfRange> {
        self.budget().check(&self.clean, images)?;
        require(self.lr.is_finite() && self.lr > 0.0, "lr", self.lr, "above 0")?;
        let fits = self.temperature > 0.0 && self.temperature <= 100.0;
        require(fits, "temperature", self.temperature, "above 0, at most 100")?;
        for (field, weight) in [("attention", self.attention), ("information", self.information)] {
            require((0.0..=1e9).contains(&weight), field, weight, "0 to 1,000,000,000")?;
        }
        let fits = self.information_epochs <= 100_000;
        require(fits, "information_epochs", self.information_epochs, "0 to 100,000")
    }

    /// Checks that the stages of this encoder can be compared.
    ///
    /// # Errors
    /// [`PretrainError::NotApplicable`] if it has no maps, [`PretrainError::Range`] if its sizes are out of range.
    pub fn check_encoder(&self, encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_encoder(encoder)
    }

    /// The length of a training on a clean part.
    pub fn budget(&self) -> Budget {
        Budget { epochs: self.epochs, steps: self.steps, batch: self.batch }
    }

    /// The plan of a student's epochs on a clean part of `images` images: whole batches only.
    pub fn plan(&self, seed: u64, images: usize) -> EpochPlan {
        EpochPlan { drop_last: true, ..self.budget().plan(seed, images) }
    }

    /// Steps of a student's whole training on a clean part of `images` images.
    pub fn steps_on(&self, images: usize) -> usize {
        let plan = self.plan(0, images);
        self.epochs_on(images) * plan.steps_per_epoch()
    }

    fn epochs_on(&self, images: usize) -> usize {
        self.steps.map_or(self.epochs, |steps| self.plan(0, images).epochs_for(steps))
    }

    /// The training of a student on a clean part of `images` images.
    fn training(&self, images: usize) -> TrainConfig {
        let epochs = self.epochs_on(images);
        TrainConfig {
            optimizer: OptimizerConfig::Adam { betas: [0.9, 0.999] },
            weight_decay: 1e-6,
            schedule: Schedule::Steps { drops: Vec::new(), factor: 1.0, warmup_steps: 0 },
            // About twenty checkpoints in all, because epochs on a small part are short.
            checkpoint_every: (epochs / 20).max(1),
            canaries: self.canaries,
            ..TrainConfig::sgd(epochs, self.batch, self.lr)
        }
    }

    /// The weights of the four stages: `attention`, plus `information` times the stage's share of all four `nats`. If
    /// all are 0, the shares are equal.
    pub fn weights(&self, nats: [f64; STAGES]) -> [f64; STAGES] {
        let all: f64 = nats.iter().sum();
        let share = |nats: f64| if all > 0.0 { nats / all } else { 1.0 / STAGES as f64 };
        nats.map(|nats| self.attention + self.information * share(nats))
    }
}

/// Distils `teacher` (in evaluation mode) into a student of the same architecture on the clean images of `training`, with
/// views of `size` pixels, or resumes from the checkpoint that `observer` returns. As in the reference, the weights are set
/// once, from the mutual information between pooled stages and feature of the *untrained* student.
///
/// # Errors
/// As [`MimicConfig::check`], [`Mimic::new`] and [`train`], or a clean part that does not fill a batch.
pub fn mimic(
    config: &MimicConfig,
    encoder: &EncoderConfig,
    teacher: Encoder,
    size: u32,
    training: &Training,
    observer: &mut dyn TrainObserver,
) -> Result<Encoder, PretrainError> {
    let images = training.set.len();
    config.check(None)?;
    config.budget().check_part(images)?;
    config.check_encoder(encoder)?;
    let how = config.training(images);
    let views = Arc::new(ChainViews::moco(size, how.crop, how.blurs(size)));
    let weights = config.weights(nats(config, encoder, size, training)?);
    let (seed, device) = (training.seed, training.autodiff_device());
    let method = Mimic::new(teacher, encoder, weights, config.temperature, seed, &device)?;
    train(training, &how, views, method, observer)
}

/// Images in a forward pass.
const BATCH: usize = 250;

/// Mutual information between each stage of the untrained student and its final feature, on the images of `training`.
fn nats(
    config: &MimicConfig,
    encoder: &EncoderConfig,
    size: u32,
    training: &Training,
) -> Result<[f64; STAGES], PretrainError> {
    let device: &Device = &training.device;
    let student = untrained(encoder, training.seed, device).valid();
    let set = resized_set(training.set.clone(), size, Filter::Bilinear, false);
    let mut stages: [Vec<Tensor<2>>; STAGES] = Default::default();
    for first in (0..set.len()).step_by(BATCH) {
        let (pixels, _) = plain_batch(set.as_ref(), first..set.len().min(first + BATCH))?;
        let images = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), device);
        // The first feature is that of the layers before the stages.
        for (all, stage) in stages.iter_mut().zip(student.stages(images).into_iter().skip(1)) {
            all.push(stage);
        }
    }
    let stages = stages.map(|parts| Tensor::cat(parts, 0));
    let feature = stages[STAGES - 1].clone();
    let of = |number: usize| {
        let (seed, epochs, batch) = (training.seed, config.information_epochs, config.batch);
        let how = Estimate { seed, number: number as u64, epochs, batch };
        how.nats(stages[number].clone(), feature.clone())
    };
    Ok([of(0), of(1), of(2), of(3)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_data::DataConfig;
    use ssl_backdoor_model::Stem;

    #[test]
    fn weights_are_a_base_and_a_share_by_hand() {
        let config = MimicConfig::default();
        let expected = [1000.0 + 1000.0, 1000.0 + 2000.0, 1000.0 + 3000.0, 1000.0 + 4000.0];
        let found = config.weights([0.1, 0.2, 0.3, 0.4]);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        assert_eq!(config.weights([0.0; 4]), [3500.0; 4]);
        let none = MimicConfig { information: 0.0, ..config };
        assert_eq!(none.weights([1.0, 2.0, 3.0, 4.0]), [1000.0; 4]);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let config = MimicConfig { batch: 16, clean: vec![0.5], ..MimicConfig::default() };
        assert!(config.check(Some(40)).is_ok());
        for (wrong, what) in [
            (MimicConfig { lr: 0.0, ..config.clone() }, "lr = 0 "),
            (MimicConfig { temperature: f64::NAN, ..config.clone() }, "temperature = NaN"),
            (MimicConfig { attention: -1.0, ..config.clone() }, "attention = -1"),
            (MimicConfig { information: f64::INFINITY, ..config.clone() }, "information = inf"),
            (MimicConfig { information_epochs: 1_000_000, ..config.clone() }, "information_epochs"),
            (MimicConfig { clean: Vec::new(), ..config.clone() }, "clean = []"),
            (MimicConfig { batch: 30, ..config.clone() }, "batch = 30"),
        ] {
            let message = wrong.check(Some(40)).unwrap_err().to_string();
            assert!(message.starts_with(what), "{message}");
        }
        // Two whole batches of 16 in each of nine epochs.
        let steps = MimicConfig { steps: Some(17), ..config };
        assert_eq!((steps.steps_on(40), steps.epochs_on(40)), (18, 9));
    }

    /// The seed and the weights decide the student. A batch larger than the set is an error.
    #[test]
    fn a_training_runs_and_the_seed_decides_it() {
        let data = r#"{ "kind": "shapes", "size": 16, "per_class": 4 }"#;
        let data: DataConfig = serde_json::from_str(data).unwrap();
        let set = data.load(&|_, _, _| {}).unwrap().pretrain_set().clone();
        let (encoder, device) =
            (EncoderConfig::Resnet18 { width: 2, stem: Stem::Small }, Device::flex());
        let teacher = untrained(&encoder, 77, &device).valid();
        let config =
            MimicConfig { epochs: 2, batch: 16, information_epochs: 3, ..MimicConfig::default() };
        let run = |config: &MimicConfig, seed| {
            let training = Training::new(set.clone(), seed, &device);
            let found = mimic(config, &encoder, teacher.clone(), 16, &training, &mut ()).unwrap();
            found.forward(Tensor::ones([1, 3, 16, 16], &device)).into_data()
        };
        let one = run(&config, 1);
        assert_eq!(run(&config, 1), one);
        assert_ne!(run(&config, 2), one);
        assert_ne!(run(&MimicConfig { information: 0.0, ..config.clone() }, 1), one);
        let small = MimicConfig { batch: 64, ..config };
        let training = Training::new(set.clone(), 1, &device);
        let message = mimic(&small, &encoder, teacher.clone(), 16, &training, &mut ());
        assert!(message.unwrap_err().to_string().starts_with("batch = 64"));
    }
}
