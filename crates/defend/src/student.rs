//! A CompReSS student. A student of the backdoored model is the defence; a student of the clean twin is a control.

use serde_json::json;
use ssl_backdoor_compress::{CompressConfig, Control, distill};
use ssl_backdoor_data::Splits;
use ssl_backdoor_model::Encoder;
use ssl_backdoor_ssl::{PretrainConfig, TrainObserver, initial_encoder};

use crate::clean_part::CleanPart;
use crate::{
    Bench, Defence, DefendError, Identity, Images, ModelId, Needs, ProbedAs, Rehearsal, Role,
    Victim, Workload,
};

/// Steps in an epoch of a rehearsal.
const STEPS: usize = 8;

/// One student.
pub(crate) struct Student<'a> {
    pub config: &'a CompressConfig,
    pub part: CleanPart,
    /// Whether its teacher is the clean twin, not the backdoored model.
    pub of_twin: bool,
}

/// `config` without its seed and the lists of other trainings, which do not affect one student.
pub(crate) fn alone(config: &CompressConfig) -> CompressConfig {
    CompressConfig {
        seed: None,
        clean: Vec::new(),
        controls: Vec::new(),
        poisoned: Vec::new(),
        ..config.clone()
    }
}

impl Defence for Student<'_> {
    fn model(&self) -> ModelId {
        let role = if self.of_twin { Role::CLEAN_TEACHER } else { Role::DISTILLED };
        ModelId::on_share(role, self.part.share).contaminated(self.part.poisoned)
    }

    fn needs(&self) -> Needs {
        if self.of_twin { Needs::CleanTwin } else { Needs::BackdooredModel }
    }

    fn identity(&self, victim: &PretrainConfig) -> Identity {
        let CleanPart { share, poisoned } = self.part;
        let control = self.of_twin.then_some(Control::DistilClean);
        Identity {
            model: json!({
                "name": self.model(), "share": share, "poisoned": poisoned, "control": control
            }),
            // It shares only the victim's architecture.
            pretrain: json!(victim.encoder),
            defend: json!(alone(self.config)),
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
        self.config.check_part(images).map_err(|cause| self.part.too_small(images, cause))
    }

    fn workload(&self, _: &PretrainConfig, splits: &Splits) -> Result<Workload, DefendError> {
        let steps = self.config.steps_on(self.part.about(splits.train.labels.len()));
        Ok(Workload { what: "student", steps, images: steps * self.config.batch })
    }

    fn rehearsal(&self, seed: u64, images: usize) -> Option<Rehearsal<'_>> {
        let short = CompressConfig { epochs: 2, steps: None, ..self.config.clone() };
        let plan = short.plan(seed, images.min(STEPS * short.batch));
        let train = move |bench: &Bench<'_>, observer: &mut dyn TrainObserver| {
            let Bench { victim, size, training, .. } = *bench;
            short.check_part(training.set.len())?;
            let teacher = initial_encoder(victim, training.seed, &training.device);
            distill(&short, &victim.encoder, teacher, size, training, observer)?;
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
        self.config.check_part(training.set.len())?;
        let teacher = bench.load(bench.start(&self.model())?)?;
        Ok(distill(self.config, &victim.encoder, teacher, size, training, observer)?)
    }
}
