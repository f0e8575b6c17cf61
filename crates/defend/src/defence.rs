//! The trait of a defence.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use ssl_backdoor_data::{Draws, EpochPlan, Splits};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_ssl::{PretrainConfig, TrainObserver, Training, TrainingHook, pretrain};

use crate::{Bench, DefendError, ImageHook, Images, ModelId, Role, Search, Victim};

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

/// The method whose rules apply to a defended model if each method has its own probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbedAs {
    /// The victim's method.
    Victim,
    /// MoCo v2, whose rules CompReSS's reference uses too.
    MocoV2,
}

/// What determines a training besides its images, its seed and the encoder that it starts from. A training whose
/// identity is unchanged is not repeated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identity {
    /// Which model it is.
    pub model: Value,
    /// What it takes from the config of the victim.
    pub pretrain: Value,
    /// What it takes from its own config.
    pub defend: Value,
}

/// Length of the training of a defended model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// The kind of training in a word, for example `student` or `control`.
    pub what: &'static str,
    /// Optimisation steps.
    pub steps: usize,
    /// Images that pass through the training.
    pub images: usize,
}

/// A short training that times a [`Workload`]: two epochs, the first of which is a warm-up.
pub struct Rehearsal<'a> {
    /// The plan of its epochs, on a set of [`EpochPlan::images`] images.
    pub plan: EpochPlan,
    /// Trains, and reports each epoch to the observer.
    pub train: Box<Train<'a>>,
}

/// The training of a [`Rehearsal`].
pub type Train<'a> = dyn Fn(&Bench<'_>, &mut dyn TrainObserver) -> Result<(), DefendError> + 'a;

/// A defence makes one model. It acts at one or more of four points, each of which is a method `on_…` of this trait.
/// At the others it does nothing: it keeps the default methods.
///
/// A defence that filters the training set implements [`on_training_set`](Self::on_training_set), and the default of
/// [`on_encoder`](Self::on_encoder) trains the victim's method again on the remaining images. One that repairs an
/// encoder implements both: the images, and the repair that uses them.
pub trait Defence {
    /// The id of its model.
    fn model(&self) -> ModelId;

    /// What the model is made from.
    fn needs(&self) -> Needs;

    /// What determines its training.
    fn identity(&self, victim: &PretrainConfig) -> Identity;

    /// Seed of its training and of its choices, in an experiment with the seed `experiment`.
    fn seed(&self, experiment: u64) -> u64 {
        experiment
    }

    /// The purposes for which the order and the views of its training are drawn.
    fn draws(&self) -> Draws {
        Draws::DEFENCE
    }

    /// How its model is probed.
    fn probed_as(&self) -> ProbedAs {
        ProbedAs::Victim
    }

    /// Checks everything that needs the data.
    ///
    /// # Errors
    /// Its images cannot be chosen, or it cannot train on them.
    fn check(&self, victim: &Victim<'_>) -> Result<(), DefendError> {
        self.on_training_set(victim).map(drop)
    }

    /// Length of its training on the images of `splits`, accurate to a fraction of an epoch.
    ///
    /// # Errors
    /// Its images cannot be chosen.
    fn workload(&self, victim: &PretrainConfig, splits: &Splits) -> Result<Workload, DefendError>;

    /// The training that times a workload on a training set of at least `images` images; `None` if the defence uses
    /// the victim's own training, which is already timed.
    fn rehearsal(&self, _seed: u64, _images: usize) -> Option<Rehearsal<'_>> {
        None
    }

    /// Point 1, on the training set before training: the images that the model is trained on. The default keeps all.
    ///
    /// # Errors
    /// The images cannot be chosen.
    fn on_training_set(&self, _victim: &Victim<'_>) -> Result<Images, DefendError> {
        Ok(Images::All)
    }

    /// Point 1 with a trained encoder: the search, if any, for images that are removed from those of point 1 before
    /// the training. It runs once, with the encoder of the model that the defence [needs](Self::needs).
    fn search(&self) -> Option<&dyn Search> {
        None
    }

    /// Point 2, on views and loss during the training. The default of [`on_encoder`](Self::on_encoder) trains with the hook;
    /// a defence that has its own way of training passes it on as [`Training::hook`].
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
        let Some(start) = bench.start else {
            let training = Training { hook: self.on_training(), ..bench.training.clone() };
            return Ok(pretrain(bench.victim, None, bench.size, &training, observer)?);
        };
        Ok(bench.load(start)?)
    }

    /// Point 4, on an image at test time, and on the labelled images from which the model's probe learns.
    fn on_image(&self) -> Option<Arc<dyn ImageHook>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use serde_json::json;
    use ssl_backdoor_data::DataConfig;
    use ssl_backdoor_model::save_encoder;
    use ssl_backdoor_ssl::{Progress, encoder_header, initial_encoder};

    use super::*;

    /// Repairs no encoder; trains again if it has a hook.
    struct Hooked(Option<Arc<dyn TrainingHook>>);

    /// Sets the loss to 0, from which nothing can be learned.
    struct NoLoss;

    impl TrainingHook for NoLoss {
        fn loss(&self, loss: Tensor<1>, _: &Progress) -> Tensor<1> {
            loss.mul_scalar(0.0)
        }
    }

    struct Nothing;

    impl TrainingHook for Nothing {}

    impl Defence for Hooked {
        fn model(&self) -> ModelId {
            "hooked".into()
        }

        fn needs(&self) -> Needs {
            if self.0.is_some() { Needs::Retraining } else { Needs::BackdooredModel }
        }

        fn identity(&self, victim: &PretrainConfig) -> Identity {
            Identity { model: json!("hooked"), pretrain: json!(victim), defend: json!(null) }
        }

        fn workload(&self, _: &PretrainConfig, _: &Splits) -> Result<Workload, DefendError> {
            Ok(Workload { what: "nothing", steps: 0, images: 0 })
        }

        fn on_training(&self) -> Option<Arc<dyn TrainingHook>> {
            self.0.clone()
        }
    }

    #[test]
    fn by_default_an_encoder_stays_as_it_is_and_a_training_runs_with_the_hook() {
        let victim: PretrainConfig = toml::from_str(
            "method = { kind = \"simclr\" }\nencoder = { kind = \"resnet18\", width = 2, stem = \"small\" }\nepochs = 1\n\
             batch = 10\nweight_decay = 0\ncanaries = \"off\"\n",
        )
        .unwrap();
        let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
        let header = encoder_header(victim.encoder, 8);
        let bytes = |encoder: &Encoder| {
            let file = folder.path().join("encoder");
            save_encoder(encoder, &header, &file).unwrap();
            std::fs::read(file).unwrap()
        };
        let initial = initial_encoder(&victim, 1, &device);
        let before = bytes(&initial);
        let start = folder.path().join("start");
        save_encoder(&initial, &header, &start).unwrap();
        let data: DataConfig =
            serde_json::from_value(json!({ "kind": "shapes", "size": 8, "per_class": 2 })).unwrap();
        let set = data.load(&|_, _, _| {}).unwrap().pretrain_set().clone();
        let training = Training::new(set, 1, &device);
        let bench = Bench { victim: &victim, size: 8, start: None, training: &training };
        let repaired = Bench { start: Some(&start), ..bench };
        let encoder = Hooked(None).on_encoder(&repaired, &mut ()).unwrap();
        assert!(bytes(&encoder) == before);

        let train = |hook: Option<Arc<dyn TrainingHook>>| {
            bytes(&Hooked(hook).on_encoder(&bench, &mut ()).unwrap())
        };
        let (plain, nothing) = (train(None), train(Some(Arc::new(Nothing))));
        assert!(plain != before && plain == nothing);
        // The running statistics of batch norm change; the weights do not.
        let weights = |bytes: &[u8]| -> Vec<Vec<u8>> {
            let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
            let mut names: Vec<String> = file.names().iter().map(|name| name.to_string()).collect();
            names.retain(|name| !name.contains("running_"));
            names.sort();
            names.iter().map(|name| file.tensor(name).unwrap().data().to_vec()).collect()
        };
        assert!(weights(&train(Some(Arc::new(NoLoss)))) == weights(&before));
        assert!(weights(&plain) != weights(&before));
    }
}
