//! Stage 4: the defended models, one after the other. Each defence decides how its model is made.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_defend::{
    Bench, Defence, DefendError, Hooked, Images, ModelId, ProbedAs, Removal, Search, Victim,
    defences,
};
use ssl_backdoor_ssl::Training;

use super::{encoders, poison};
use crate::record::{Artefact, StageId};
use crate::run::inputs::Inputs;
use crate::run::lab::Lab;
use crate::run::progress;
use crate::run::watched::Watched;

impl Lab {
    /// The data that a defence gets.
    fn victim(&self) -> Victim<'_> {
        let Self { experiment, splits, attack, .. } = self;
        Victim {
            splits,
            train: self.poisoned_train(),
            poisoned: attack.plan.ids().collect(),
            pretrain: &experiment.pretrain,
            size: experiment.data.size(),
            seed: experiment.seed,
        }
    }

    /// The defence that makes `model`, if there is one.
    fn defence(&self, model: &ModelId) -> Option<Box<dyn Defence + '_>> {
        let all = defences(&self.experiment.defend);
        all.into_iter().find(|defence| defence.model() == *model)
    }
}

/// The model whose own probe is used for `model`.
pub(super) fn probed_as(lab: &Lab, model: &ModelId) -> ProbedAs {
    lab.defence(model).map_or(ProbedAs::Victim, |defence| defence.probed_as())
}

/// The images of `set` as the trained `model` sees them: labelled images of its probe and evaluation images.
pub(super) fn at_test_time(lab: &Lab, model: &ModelId, set: SampleSet) -> SampleSet {
    match lab.defence(model).and_then(|defence| defence.on_image()) {
        Some(hook) => Arc::new(Hooked::new(set, hook)),
        None => set,
    }
}

/// The change to the images that the trained `model` sees, if there is one.
pub(super) fn image_hook(lab: &Lab, model: &ModelId) -> Option<Value> {
    let defence = lab.defence(model).filter(|defence| defence.on_image().is_some())?;
    Some(defence.identity(&lab.experiment.pretrain).defend)
}

/// The images removed by filters of the training set.
pub(super) fn removed(lab: &Lab) -> Result<BTreeMap<ModelId, Removal>> {
    let (victim, mut removed) = (lab.victim(), BTreeMap::new());
    for defence in defences(&lab.experiment.defend) {
        let images = match defence.search() {
            None => defence.on_training_set(&victim)?,
            Some(_) => left(&victim, &read_removed(lab, &defence.model())?.ids),
        };
        let found = images.removal(&victim);
        removed.extend(found.map(|found| (defence.model(), found)));
    }
    Ok(removed)
}

/// Checks every defence against the data.
pub(super) fn check(lab: &Lab) -> Result<()> {
    let (experiment, victim) = (&lab.experiment, lab.victim());
    for (i, config) in experiment.defend.iter().enumerate() {
        for defence in config.settings().defences() {
            let wrong = |e: DefendError| experiment.source.wrong(experiment.wrong_defence(i, &e));
            defence.check(&victim).map_err(wrong)?;
        }
    }
    Ok(())
}

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let configs = lab.experiment.defend.clone();
    for defence in defences(&configs) {
        let model = defence.model();
        let images = defence.on_training_set(&lab.victim())?;
        let inputs = inputs(lab, &*defence, &images)?;
        let mut artefacts = vec![Artefact::Encoder(model.clone())];
        artefacts.extend(defence.search().map(|_| Artefact::Removed(model.clone())));
        lab.stage(&StageId::Defend(model), &inputs, &artefacts, |lab, identity| {
            train(lab, &*defence, &images, identity)
        })?;
    }
    Ok(())
}

/// The encoder that a defence changes, if it needs one.
fn starts_from(defence: &dyn Defence) -> Option<Artefact> {
    defence.needs().model().map(|role| Artefact::Encoder(role.into()))
}

/// Inputs of a defended model.
fn inputs(lab: &Lab, defence: &dyn Defence, images: &Images) -> Result<Inputs> {
    let start = starts_from(defence).map(|encoder| lab.artefact(&encoder));
    let poison = images.may_be_poisoned().then(|| poison::outcome(lab));
    let identity = defence.identity(&lab.experiment.pretrain);
    let inputs = lab
        .inputs()
        .with("training images", &lab.splits.fingerprint.train)?
        .with("data.size", &lab.experiment.data.size())?
        .with("model", &identity.model)?
        .with("pretrain", &identity.pretrain)?
        .with("defend", &identity.defend)?
        .with("seed", &defence.seed(lab.experiment.seed))?
        .with("starts from", &start.transpose()?)?
        .with("poisoned images", &poison.transpose()?)?;
    match images {
        Images::Kept(ids) => inputs.with("kept images", ids),
        _ => Ok(inputs),
    }
}

fn train(lab: &Lab, defence: &dyn Defence, images: &Images, identity: &str) -> Result<()> {
    let (experiment, model) = (&lab.experiment, defence.model());
    let folder = lab.folder.make(&model)?;
    let victim = lab.victim();
    let training = Training {
        draws: defence.draws(),
        workers: experiment.workers,
        ..Training::new(images.set(&victim), defence.seed(experiment.seed), &lab.device)
    };
    let mut watched = Watched::new(&folder, identity, model.as_str())
        .with_events(&folder, experiment.tensorboard);
    let start = starts_from(defence).map(|encoder| lab.path(&encoder));
    let bench = Bench {
        victim: &experiment.pretrain,
        size: experiment.data.size(),
        start: start.as_deref(),
        training: &training,
    };
    let encoder = match defence.search() {
        None => defence.on_encoder(&bench, &mut watched)?,
        Some(search) => {
            let removed = removed_by(lab, search, (&model, identity), &bench)?;
            let training =
                Training { set: left(&victim, &removed.ids).set(&victim), ..training.clone() };
            defence.on_encoder(&Bench { training: &training, ..bench }, &mut watched)?
        }
    };
    encoders::save(lab, &model, &encoder)
}

/// The images removed by a search.
#[derive(Serialize, Deserialize)]
struct Removed {
    /// Hash of everything that determines it and its training.
    identity: String,
    /// Ids of the images.
    ids: Vec<u64>,
    /// Why the search had no result, if it had none; nothing is removed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_result: Option<String>,
}

/// The images of `victim` without those of `removed`.
fn left(victim: &Victim<'_>, removed: &[u64]) -> Images {
    let removed: HashSet<u64> = removed.iter().copied().collect();
    let all = victim.splits.train.labels.iter().map(|(id, _)| *id);
    Images::Kept(all.filter(|id| !removed.contains(id)).collect())
}

fn read_removed(lab: &Lab, model: &ModelId) -> Result<Removed> {
    let path = lab.path(&Artefact::Removed(model.clone()));
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))
}

/// The images that `search` removes before the training of `model`; an earlier result for the same training is reused.
fn removed_by(
    lab: &Lab,
    search: &dyn Search,
    (model, identity): (&ModelId, &str),
    bench: &Bench<'_>,
) -> Result<Removed> {
    if let Some(found) = read_removed(lab, model).ok().filter(|one| one.identity == identity) {
        return Ok(found);
    }
    let (ids, no_result) = match search.removed(bench, &progress::watch()) {
        Ok(ids) => (ids, None),
        Err(DefendError::Scan(error)) if error.says_nothing() => {
            eprintln!("{model}: the search has no result, so no image is removed: {error}");
            (Vec::new(), Some(error.to_string()))
        }
        Err(error) => return Err(error.into()),
    };
    let removed = Removed { identity: identity.to_owned(), ids, no_result };
    lab.folder.write(Artefact::Removed(model.clone()), &serde_json::to_vec(&removed)?)?;
    Ok(removed)
}
