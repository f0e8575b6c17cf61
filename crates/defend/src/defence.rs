//! What a defence is to an experiment.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use ssl_backdoor_data::{Draws, EpochPlan, Splits};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_ssl::{PretrainConfig, TrainObserver, pretrain};

use crate::{Bench, DefendError, ImageHook, Images, ModelId, Role, TrainingHook, Victim};

/// What a defended model is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The encoder of the clean twin.
    CleanTwin,
    /// The encoder of the backdoored model.
    BackdooredModel,
    /// No trained encoder: it is trained from new weights.
    Retraining,
}

impl Needs {
    /// The model whose encoder it needs.
    pub fn model(self) -> Option<Role<'static>> {
        match self {
            Self::CleanTwin => Some(Role::CLEAN),
            Self::BackdooredModel => Some(Role::BACKDOORED),
            Self::Retraining => None,
        }
    }
}

/// Whose own rules read a defended model where the probe is each method's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbedAs {
    /// Those of the victim's method.
    Victim,
    /// Those of MoCo v2, which CompReSS's reference uses too.
    MocoV2,
}

/// What decides a training beside its images, its seed and the encoder that it starts from. A training whose identity
/// is unchanged is not done again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identity {
    /// Which model it is.
    pub model: Value,
    /// What it takes from the config of the victim.
    pub pretrain: Value,
    /// What it takes from its own config.
    pub defend: Value,
}

/// How long the training of a defended model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// What is trained, in a word: `student`, `control`.
    pub what: &'static str,
    /// Optimisation steps.
    pub steps: usize,
    /// Images that pass through it.
    pub images: usize,
}

/// A short training by which a [`Workload`] is timed: two epochs, of which the first warms up.
pub struct Rehearsal<'a> {
    /// How its epochs go through the images: [`EpochPlan::images`] of them are in the set.
    pub plan: EpochPlan,
    /// Trains, and tells the observer of each epoch.
    pub train: Box<Train<'a>>,
}

/// The training of a [`Rehearsal`].
pub type Train<'a> = dyn Fn(&Bench<'_>, &mut dyn TrainObserver) -> Result<(), DefendError> + 'a;

/// A defence makes one model. It acts at one or more of four points, each of them a method `on_…` of this trait; at the
/// others it does nothing, which is what their defaults do.
///
/// A defence that filters the training set implements [`on_training_set`](Self::on_training_set), and the default of
/// [`on_encoder`](Self::on_encoder) trains the victim's method again on what is left. One that repairs an encoder
/// implements both: the images that it holds, and what it does with them.
pub trait Defence {
    /// Its model.
    fn model(&self) -> ModelId;

    /// What the model is made from.
    fn needs(&self) -> Needs;

    /// What decides its training.
    fn identity(&self, victim: &PretrainConfig) -> Identity;

    /// Seed of its training and of what it chooses, in an experiment with the seed `experiment`.
    fn seed(&self, experiment: u64) -> u64 {
        experiment
    }

    /// What order and views of its training are drawn for.
    fn draws(&self) -> Draws {
        Draws::DEFENCE
    }

    /// How its model is probed.
    fn probed_as(&self) -> ProbedAs {
        ProbedAs::Victim
    }

    /// Checks what can be checked only on the data.
    ///
    /// # Errors
    /// Its images cannot be chosen, or it cannot train on them.
    fn check(&self, victim: &Victim<'_>) -> Result<(), DefendError> {
        self.on_training_set(victim).map(drop)
    }

    /// How long its training on the images of `splits` is, up to a part of an epoch.
    ///
    /// # Errors
    /// Its images cannot be chosen.
    fn workload(&self, victim: &PretrainConfig, splits: &Splits) -> Result<Workload, DefendError>;

    /// By what a workload on a training set of at least `images` images is timed; none if it takes the victim's own
    /// training, which is timed already.
    fn rehearsal(&self, _seed: u64, _images: usize) -> Option<Rehearsal<'_>> {
        None
    }

    /// Point 1, on the training set before training: the images that the model is trained on. The default keeps all.
    ///
    /// # Errors
    /// They cannot be chosen.
    fn on_training_set(&self, _victim: &Victim<'_>) -> Result<Images, DefendError> {
        Ok(Images::All)
    }

    /// Point 2, on views and loss during the training. No training loop calls the hook yet: the default of
    /// [`on_encoder`](Self::on_encoder) refuses a defence that has one.
    fn on_training(&self) -> Option<Arc<dyn TrainingHook>> {
        None
    }

    /// Point 3, on the trained encoder: the model's encoder, in evaluation mode. The default leaves the encoder that the
    /// model [needs](Self::needs) as it is; if it needs none, it trains the victim's method on the images of point 1.
    ///
    /// # Errors
    /// As [`pretrain`]; or the encoder file cannot be read.
    fn on_encoder(
        &self,
        bench: &Bench<'_>,
        observer: &mut dyn TrainObserver,
    ) -> Result<Encoder, DefendError> {
        if self.on_training().is_some() {
            let model = self.model().into();
            return Err(DefendError::Point { model, point: "views and loss during training" });
        }
        match bench.start {
            Some(start) => Ok(bench.load(start)?),
            None => Ok(pretrain(bench.victim, None, bench.size, bench.training, observer)?),
        }
    }

    /// Point 4, on an image at test time.
    fn on_image(&self) -> Option<Arc<dyn ImageHook>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde_json::json;
    use ssl_backdoor_data::InMemory;
    use ssl_backdoor_model::save_encoder;
    use ssl_backdoor_ssl::{Training, encoder_header, initial_encoder};

    use super::*;

    /// Acts at test time at most, and with a hook during training.
    struct Idle {
        hook: bool,
    }

    struct Nothing;

    impl TrainingHook for Nothing {}

    impl Defence for Idle {
        fn model(&self) -> ModelId {
            "idle".into()
        }

        fn needs(&self) -> Needs {
            Needs::BackdooredModel
        }

        fn identity(&self, victim: &PretrainConfig) -> Identity {
            Identity { model: json!("idle"), pretrain: json!(victim), defend: json!(null) }
        }

        fn workload(&self, _: &PretrainConfig, _: &Splits) -> Result<Workload, DefendError> {
            Ok(Workload { what: "nothing", steps: 0, images: 0 })
        }

        fn on_training(&self) -> Option<Arc<dyn TrainingHook>> {
            self.hook.then(|| -> Arc<dyn TrainingHook> { Arc::new(Nothing) })
        }
    }

    #[test]
    fn a_defence_that_does_nothing_leaves_the_encoder_as_it_is_and_a_training_hook_is_refused() {
        let victim: PretrainConfig = toml::from_str(
            "method = { kind = \"rotnet\" }\nencoder = { kind = \"resnet18\", width = 2, stem = \"small\" }\nepochs = 1\n",
        )
        .unwrap();
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let header = encoder_header(victim.encoder, 8);
        let [start, after] = ["start", "after"].map(|name| folder.path().join(name));
        save_encoder(&initial_encoder(&victim, 7, &device), &header, &start).unwrap();
        let training = Training::new(Arc::new(InMemory::new(Vec::new())), 1, &device);
        let bench = Bench { victim: &victim, size: 8, start: Some(&start), training: &training };
        let encoder = Idle { hook: false }.on_encoder(&bench, &mut ()).unwrap();
        save_encoder(&encoder, &header, &after).unwrap();
        assert!(std::fs::read(start.clone()).unwrap() == std::fs::read(after).unwrap());
        let refused = Idle { hook: true }.on_encoder(&bench, &mut ()).map(drop).unwrap_err();
        assert!(refused.to_string().contains("idle acts on views and loss"), "{refused}");
    }
}
