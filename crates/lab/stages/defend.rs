//! Stage 4: CompReSS students of the backdoored model, one for each clean share, and what they are held against.

use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;
use ssl_backdoor_compress::{CompressConfig, Control, DefendConfig, distill};
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_data::{Draws, Joined, SampleSet, Subset, clean_part_ids};
use ssl_backdoor_model::load_encoder;
use ssl_backdoor_ssl::{Training, pretrain};

use super::Lab;
use super::inputs::Inputs;
use super::pretrain::{encoder_file, header, save};
use crate::scores::{BACKDOORED, CLEAN};
use crate::watched::Watched;

/// One training of the defence.
#[derive(Debug, Clone, Serialize)]
struct Defended {
    /// Its folder and its key in the scores.
    name: String,
    /// Share of the training set that the defender holds.
    share: f64,
    /// Share of that part which is poisoned after all.
    poisoned: f64,
    /// A control instead of a student of the backdoored model.
    control: Option<Control>,
}

impl Defended {
    /// The model that it starts from or learns from.
    fn source(&self) -> Option<&'static str> {
        match self.control {
            None | Some(Control::FineTune) => Some(BACKDOORED),
            Some(Control::DistilClean) => Some(CLEAN),
            Some(Control::Scratch) => None,
        }
    }

    /// Whether CompReSS trains it, not the victim's method.
    fn is_student(&self) -> bool {
        matches!(self.control, None | Some(Control::DistilClean))
    }
}

/// What chance hangs on in this stage.
fn seed(lab: &Lab) -> u64 {
    config(lab).and_then(|config| config.seed).unwrap_or(lab.experiment.seed)
}

fn config(lab: &Lab) -> Option<&CompressConfig> {
    let DefendConfig::Compress(config) = lab.experiment.defend.as_ref()?;
    Some(config)
}

/// What the config asks for, as configured: students, then controls, then students of poisoned parts.
fn plan(config: &CompressConfig) -> Vec<Defended> {
    let of = |name: &str, share: f64, control| Defended {
        name: format!("{name}-{share}"),
        share,
        poisoned: 0.0,
        control,
    };
    let mut all: Vec<_> = config.clean.iter().map(|&share| of("distilled", share, None)).collect();
    for &control in &config.controls {
        let name = match control {
            Control::FineTune => "fine-tuned",
            Control::Scratch => "scratch",
            Control::DistilClean => "clean-teacher",
        };
        all.extend(config.clean.iter().map(|&share| of(name, share, Some(control))));
    }
    for &poisoned in &config.poisoned {
        let share = config.clean.first().copied().unwrap_or_default();
        let name = format!("distilled-{share}-poisoned-{poisoned}");
        all.push(Defended { name, share, poisoned, control: None });
    }
    all
}

/// The models that the defence adds.
pub(super) fn models(lab: &Lab) -> Vec<String> {
    config(lab).map_or(Vec::new(), |config| plan(config).into_iter().map(|d| d.name).collect())
}

/// Whether `model` is a student of CompReSS.
pub(super) fn is_student(lab: &Lab, model: &str) -> bool {
    config(lab).is_some_and(|config| plan(config).iter().any(|d| d.name == model && d.is_student()))
}

/// Each training of a defence on a set of `images`: whether CompReSS trains it, and its steps (of a control up to a
/// part of an epoch).
pub(crate) fn defences(config: &CompressConfig, images: usize) -> Vec<(bool, usize)> {
    let steps = |d: &Defended| {
        let part = (d.share * images as f64) as usize;
        config.steps_on(part)
    };
    plan(config).iter().map(|d| (d.is_student(), steps(d))).collect()
}

/// Every part that the defence trains on can be made.
pub(super) fn check(lab: &Lab) -> Result<()> {
    let Some(config) = config(lab) else { return Ok(()) };
    for defended in plan(config) {
        let images = part(lab, &defended)?.len();
        config.check_part(images).map_err(|e| {
            let share = defended.share;
            lab.experiment.source.wrong(format!("defend.clean = {share} is {images} images: {e}"))
        })?;
    }
    Ok(())
}

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let Some(config) = config(lab).cloned() else { return Ok(()) };
    for defended in plan(&config) {
        let name = &defended.name;
        let source =
            defended.source().map(|model| lab.artefact(&encoder_file(model))).transpose()?;
        // A control trains by the victim's method; a student only shares its architecture.
        let pretrain = &lab.experiment.pretrain;
        let method = if defended.is_student() {
            serde_json::to_value(pretrain.encoder)?
        } else {
            serde_json::to_value(pretrain)?
        };
        let poison = (defended.poisoned > 0.0).then(|| super::poison::outcome(lab));
        // What the other students and controls are does not touch this one; the seed is named below.
        let own = CompressConfig {
            seed: None,
            clean: Vec::new(),
            controls: Vec::new(),
            poisoned: Vec::new(),
            ..config.clone()
        };
        let inputs = Inputs::of(lab)
            .with("training images", &lab.splits.fingerprint.train)?
            .with("data.size", &lab.experiment.data.size())?
            .with("model", &defended)?
            .with("pretrain", &method)?
            .with("defend", &own)?
            .with("seed", &seed(lab))?
            .with("starts from", &source)?
            .with("poisoned images", &poison.transpose()?)?;
        let encoder = encoder_file(name);
        lab.stage(&format!("defend {name}"), &inputs, &[&encoder], |lab, identity| {
            train(lab, &config, &defended, identity)
        })?;
    }
    Ok(())
}

fn train(lab: &Lab, config: &CompressConfig, defended: &Defended, identity: &str) -> Result<()> {
    let name = &defended.name;
    let folder = lab.folder.make(name)?;
    let experiment = &lab.experiment;
    let set = part(lab, defended)?;
    let images = set.len();
    let training = Training {
        draws: Draws::DEFENCE,
        workers: experiment.workers,
        ..Training::new(set, seed(lab), &lab.device)
    };
    let mut watched = Watched::new(&folder, identity, name);
    let size = experiment.data.size();
    let source = defended.source().map(|model| lab.path(&encoder_file(model)));
    let trained = match source {
        Some(teacher) if defended.is_student() => {
            let encoder = &experiment.pretrain.encoder;
            let teacher = load_encoder(&header(lab), &teacher, &lab.device)?;
            distill(config, encoder, teacher, size, &training, &mut watched)?
        }
        start => {
            // As many steps as a student, up to a part of an epoch: their methods may leave out a last batch.
            let epochs =
                experiment.pretrain.train.with_budget(1, config.batch).plan(seed(lab), images);
            let epochs = epochs.epochs_for(config.steps_on(images));
            let config = experiment.pretrain.with_budget(epochs, config.batch);
            pretrain(&config, start.as_deref(), size, &training, &mut watched)?
        }
    };
    save(lab, name, &trained)
}

/// The defender's part: a stratified sample of clean originals, of which some make room for poisoned images where
/// the config says so.
fn part(lab: &Lab, defended: &Defended) -> Result<SampleSet> {
    let Lab { splits, attack, .. } = lab;
    let (labels, seed) = (&splits.train.labels, seed(lab));
    let ids = clean_part_ids(labels, splits.classes.len() as u32, defended.share, seed);
    let clean = |ids: &[u64]| -> SampleSet {
        Arc::new(Subset::of_ids(splits.pretrain_set().clone(), labels, ids))
    };
    let count = (defended.poisoned * ids.len() as f64).round() as usize;
    if count == 0 {
        return Ok(clean(&ids));
    }
    let planned: Vec<u64> = attack.plan.ids().collect();
    if count > planned.len() {
        let wrong = format!(
            "defend.poisoned = {} asks for {count} poisoned images: the attacker has {}",
            defended.poisoned,
            planned.len()
        );
        return Err(lab.experiment.source.wrong(wrong).into());
    }
    let bad = &chance::ranked(&planned, seed, Purpose::CleanPart, 1)[..count];
    let good: Vec<u64> = ids.iter().copied().filter(|id| !bad.contains(id)).collect();
    let good = chance::ranked(&good, seed, Purpose::CleanPart, 2);
    let bad: SampleSet = Arc::new(Subset::of_ids(lab.poisoned_train(), labels, bad));
    Ok(Arc::new(Joined(vec![clean(&good[..ids.len() - count]), bad])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_training_has_a_name_of_its_own() {
        let config = CompressConfig {
            clean: vec![0.25, 0.1],
            controls: vec![Control::FineTune, Control::Scratch, Control::DistilClean],
            poisoned: vec![0.05],
            ..CompressConfig::default()
        };
        let names: Vec<String> = plan(&config).into_iter().map(|d| d.name).collect();
        assert_eq!(names.len(), 9);
        assert_eq!(names[..3], ["distilled-0.25", "distilled-0.1", "fine-tuned-0.25"]);
        assert_eq!(names[8], "distilled-0.25-poisoned-0.05");
    }
}
