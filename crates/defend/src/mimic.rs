//! MIMIC as a defence: a new student of the backdoored model, trained on a clean part.

use serde_json::json;
use ssl_backdoor_compress::{MimicConfig, mimic};
use ssl_backdoor_data::Splits;
use ssl_backdoor_model::Encoder;
use ssl_backdoor_ssl::{PretrainConfig, PretrainError, TrainObserver, initial_encoder};

use crate::clean_part::CleanPart;
use crate::compress::training;
use crate::retrained::not_for;
use crate::{
    Bench, Defence, DefenceSettings, DefendError, Identity, Images, ModelId, Needs, ProbedAs,
    Rehearsal, Role, Victim, Workload,
};

const KIND: &str = "mimic";
/// Steps in an epoch of a rehearsal.
const STEPS: usize = 8;

impl DefenceSettings for MimicConfig {
    fn check(
        &self,
        victim: &PretrainConfig,
        images: Option<usize>,
        _: u32,
    ) -> Result<(), DefendError> {
        MimicConfig::check(self, images)?;
        match self.check_encoder(&victim.encoder) {
            Err(PretrainError::NotApplicable { needs, .. }) => Err(not_for(KIND, victim, needs)),
            checked => Ok(checked?),
        }
    }

    fn defences(&self) -> Vec<Box<dyn Defence + '_>> {
        let of = |&share: &f64| -> Box<dyn Defence + '_> {
            Box::new(Mimic { config: self, part: CleanPart { share, poisoned: 0.0 } })
        };
        self.clean.iter().map(of).collect()
    }

    fn training(&self) -> &'static str {
        training(self.steps)
    }

    fn forget_seed(&mut self) {
        self.seed = None;
    }
}

/// One student.
struct Mimic<'a> {
    config: &'a MimicConfig,
    part: CleanPart,
}

impl Defence for Mimic<'_> {
    fn model(&self) -> ModelId {
        ModelId::on_share(Role::new(KIND), self.part.share)
    }

    fn needs(&self) -> Needs {
        Needs::BackdooredModel
    }

    fn identity(&self, victim: &PretrainConfig) -> Identity {
        let alone = MimicConfig { seed: None, clean: Vec::new(), ..self.config.clone() };
        Identity {
            model: json!({ "name": self.model(), "share": self.part.share }),
            // It shares only the victim's architecture.
            pretrain: json!(victim.encoder),
            defend: json!({ "kind": KIND, "config": alone }),
        }
    }

    fn seed(&self, experiment: u64) -> u64 {
        self.config.seed.unwrap_or(experiment)
    }

    fn probed_as(&self) -> ProbedAs {
        ProbedAs::MocoV2
    }

    fn check(&self, victim: &Victim<'_>) -> Result<(), DefendError> {
        let images = self.part.of(victim, self.seed(victim.seed))?.len();
        let checked = self.config.budget().check_part(images);
        checked.map_err(|cause| self.part.too_small(images, cause))
    }

    fn workload(&self, _: &PretrainConfig, splits: &Splits) -> Result<Workload, DefendError> {
        let steps = self.config.steps_on(self.part.about(splits.train.labels.len()));
        Ok(Workload { what: KIND, steps, images: steps * self.config.batch })
    }

    fn rehearsal(&self, seed: u64, images: usize) -> Option<Rehearsal<'_>> {
        let short =
            MimicConfig { epochs: 2, steps: None, information_epochs: 0, ..self.config.clone() };
        let plan = short.plan(seed, images.min(STEPS * short.batch));
        let train = move |bench: &Bench<'_>, observer: &mut dyn TrainObserver| {
            let Bench { victim, size, training, .. } = *bench;
            let teacher = initial_encoder(victim, training.seed, &training.device);
            mimic(&short, &victim.encoder, teacher, size, training, observer)?;
            Ok(())
        };
        Some(Rehearsal { plan, train: Box::new(train) })
    }

    fn on_training_set(&self, victim: &Victim<'_>) -> Result<Images, DefendError> {
        self.part.images(victim, self.seed(victim.seed))
    }

    fn on_encoder(
        &self,
        bench: &Bench<'_>,
        observer: &mut dyn TrainObserver,
    ) -> Result<Encoder, DefendError> {
        let Bench { victim, size, training, .. } = *bench;
        let teacher = bench.load(bench.start(&self.model())?)?;
        Ok(mimic(self.config, &victim.encoder, teacher, size, training, observer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrained::tests::victim;

    #[test]
    fn it_needs_a_resnet_and_a_model_for_each_share() {
        let config = MimicConfig { clean: vec![0.5, 0.25], batch: 8, ..MimicConfig::default() };
        let models: Vec<String> =
            config.defences().iter().map(|defence| defence.model().to_string()).collect();
        assert_eq!(models, ["mimic-0.5", "mimic-0.25"]);
        let (resnet, size) = victim("rotnet");
        assert!(DefenceSettings::check(&config, &resnet, Some(100), size).is_ok());
        let message =
            DefenceSettings::check(&config, &resnet, Some(20), size).unwrap_err().to_string();
        assert!(message.starts_with("batch = 8"), "{message}");
        let (vit, size) = victim("mae");
        let message =
            DefenceSettings::check(&config, &vit, Some(100), size).unwrap_err().to_string();
        assert!(
            message.starts_with("kind = \"mimic\"") && message.contains("a ResNet"),
            "{message}"
        );
        let [one, other] = [&resnet, &vit].map(|victim| config.defences()[0].identity(victim));
        assert_ne!(one.pretrain, other.pretrain);
        assert_eq!(one.defend["config"]["clean"], json!([]));
    }
}
