//! The victim's method on a clean part, for as many steps as a student of CompReSS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ssl_backdoor_compress::{Budget, CompressConfig, Control};
use ssl_backdoor_data::Splits;
use ssl_backdoor_fields::require;
use ssl_backdoor_model::Encoder;
use ssl_backdoor_ssl::{LearningRate, PretrainConfig, TrainObserver, pretrain};

use crate::clean_part::CleanPart;
use crate::{
    Bench, Defence, DefendError, Identity, Images, ModelId, Needs, Role, Victim, Workload,
};

/// Clean parts, and how long a training on one lasts. The defaults are those of CompReSS: as many steps as a student of
/// the same settings takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnPartConfig {
    /// Seed of the clean parts and of the trainings. Default: the experiment's `seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Shares of the training set that the defender knows to be clean, each with its own model. Range: above 0, at most
    /// 1.
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
    /// Learning rate of the training; the schedule is that of the victim. Only for `fine-tune`. Default: that of the
    /// victim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: Option<f64>,
}

impl Default for OnPartConfig {
    fn default() -> Self {
        let of = CompressConfig::default();
        let CompressConfig { seed, clean, epochs, steps, batch, .. } = of;
        Self { seed, clean, epochs, steps, batch, lr: None }
    }
}

impl OnPartConfig {
    /// Length of a training.
    pub fn budget(&self) -> Budget {
        Budget { epochs: self.epochs, steps: self.steps, batch: self.batch }
    }

    /// Checks every value, as [`DefenceSettings::check`](crate::DefenceSettings::check).
    pub(crate) fn check(
        &self,
        victim: &PretrainConfig,
        images: Option<usize>,
        size: u32,
    ) -> Result<(), DefendError> {
        self.budget().check(&self.clean, images)?;
        let lr = self.lr.unwrap_or(1.0);
        require(lr.is_finite() && lr > 0.0, "lr", lr, "above 0")?;
        let what = "the victim's method cannot train with these settings";
        check_victim(victim, self.batch, images, size, ("batch", what))
    }

    /// One training on each clean part, from the backdoored encoder if `fine_tunes`, or else from new weights.
    pub(crate) fn defences(&self, fine_tunes: bool) -> Vec<Box<dyn Defence + '_>> {
        let alone = json!(Self { seed: None, clean: Vec::new(), ..self.clone() });
        let (seed, budget, lr) = (self.seed, self.budget(), self.lr);
        let of = |&share: &f64| -> Box<dyn Defence> {
            let part = CleanPart { share, poisoned: 0.0 };
            Box::new(OnPart { fine_tunes, part, seed, budget, lr, alone: alone.clone() })
        };
        self.clean.iter().map(of).collect()
    }
}

/// Checks that the victim's method can train in batches of `batch` images. `blamed` is the field and the description
/// for the error.
pub(crate) fn check_victim(
    victim: &PretrainConfig,
    batch: usize,
    images: Option<usize>,
    size: u32,
    blamed: (&'static str, &'static str),
) -> Result<(), DefendError> {
    let (field, what) = blamed;
    let there = victim.with_budget(victim.train.epochs, batch);
    there.check(images, size).map_err(|cause| DefendError::Training {
        field,
        what,
        cause: Box::new(cause),
    })
}

/// One training: of the backdoored encoder, or from new weights.
pub(crate) struct OnPart {
    /// Whether it starts from the backdoored model, not from new weights.
    pub fine_tunes: bool,
    pub part: CleanPart,
    pub seed: Option<u64>,
    pub budget: Budget,
    /// Learning rate instead of the victim's.
    pub lr: Option<f64>,
    /// The config, without keys that do not affect this training.
    pub alone: Value,
}

impl OnPart {
    /// The training on the part's `images` images: as many steps as a student, to within a fraction of an epoch,
    /// because the method may leave out a last batch.
    fn config(&self, victim: &PretrainConfig, images: usize, seed: u64) -> PretrainConfig {
        let batch = self.budget.batch;
        let epochs = victim.train.with_budget(1, batch).plan(seed, images);
        let epochs = epochs.epochs_for(self.budget.steps_on(images));
        let mut config = victim.with_budget_on(self.part.share, epochs, batch);
        if let Some(lr) = self.lr {
            config.train.lr = LearningRate::Fixed(lr);
        }
        config
    }
}

impl Defence for OnPart {
    fn model(&self) -> ModelId {
        let role = if self.fine_tunes { Role::FINE_TUNED } else { Role::SCRATCH };
        match self.lr {
            None => ModelId::on_share(role, self.part.share),
            Some(lr) => ModelId::on_share(Role::new(&format!("{role}-lr-{lr}")), self.part.share),
        }
    }

    fn needs(&self) -> Needs {
        if self.fine_tunes { Needs::BackdooredModel } else { Needs::Retraining }
    }

    fn identity(&self, victim: &PretrainConfig) -> Identity {
        let CleanPart { share, poisoned } = self.part;
        let control = if self.fine_tunes { Control::FineTune } else { Control::Scratch };
        Identity {
            model: json!({
                "name": self.model(), "share": share, "poisoned": poisoned, "control": control
            }),
            pretrain: json!(victim),
            defend: self.alone.clone(),
        }
    }

    fn seed(&self, experiment: u64) -> u64 {
        self.seed.unwrap_or(experiment)
    }

    fn check(&self, victim: &Victim<'_>) -> Result<(), DefendError> {
        let seed = self.seed(victim.seed);
        let images = self.part.of(victim, seed)?.len();
        self.budget.check_part(images).map_err(|cause| self.part.too_small(images, cause))?;
        let config = self.config(victim.pretrain, images, seed);
        let settings = config.method.settings();
        let checked = settings
            .check_images(images)
            .and_then(|()| settings.check_clocks(&config.train, Some(images)));
        checked.map_err(|cause| self.part.too_small(images, cause))
    }

    fn workload(&self, _: &PretrainConfig, splits: &Splits) -> Result<Workload, DefendError> {
        let steps = self.budget.steps_on(self.part.about(splits.train.labels.len()));
        Ok(Workload { what: "control", steps, images: steps * self.budget.batch })
    }

    fn on_training_set(&self, victim: &Victim<'_>) -> Result<Images, DefendError> {
        self.part.images(victim, self.seed(victim.seed))
    }

    fn on_encoder(
        &self,
        bench: &Bench<'_>,
        observer: &mut dyn TrainObserver,
    ) -> Result<Encoder, DefendError> {
        let Bench { victim, size, training, start } = *bench;
        let config = self.config(victim, training.set.len(), training.seed);
        Ok(pretrain(&config, start, size, training, observer)?)
    }
}
