//! Stage 4: features of the untrained encoder, the clean twin, the backdoored model and its distilled
//! students, extracted once; a probe on each; `scores.json`.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_model::load_encoder;
use ssl_backdoor_probe::{Features, LinearProbe, Paired, ProbeError, Scores, extract};
use ssl_backdoor_ssl::initial_encoder;

use super::pretrain::{encoder_file, labelled};
use super::{Lab, poison};
use crate::scores::{BACKDOORED, CLEAN, PATCHED, RunScores, UNTRAINED};

pub(super) const SCORES: &str = "scores.json";
/// The features of the labelled training images; those of the evaluation images are named as their
/// scores.
const LABELLED: &str = "labelled";

fn probe_file(model: &str) -> String {
    format!("{model}/probe.safetensors")
}

/// The features of `set` by `model`, relative to the run folder.
fn features_file(model: &str, set: &str) -> String {
    format!("{model}/features/{set}.safetensors")
}

/// The features files of `model`.
fn features_files(model: &str) -> [String; 3] {
    [LABELLED, CLEAN, PATCHED].map(|set| features_file(model, set))
}

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let mut models = vec![UNTRAINED.to_owned()];
    models.extend(trained_models(lab));
    let mut features = Vec::new();
    for model in &models {
        extract_features(lab, model)?;
        for file in features_files(model) {
            features.push(lab.artefact(&file)?);
        }
    }
    let inputs = lab.inputs(&(
        &lab.experiment.name,
        &lab.experiment.probe,
        lab.attack.target,
        lab.experiment.seed,
        lab.artefact(poison::LEDGER)?,
        features,
    ))?;
    let mut artefacts: Vec<String> = models.iter().map(|model| probe_file(model)).collect();
    artefacts.push(SCORES.into());
    let artefacts: Vec<&str> = artefacts.iter().map(String::as_str).collect();
    lab.stage("probe", inputs, &artefacts, |lab, _| probe(lab, &models))
}

/// Models with an encoder file, in the order they are probed.
fn trained_models(lab: &Lab) -> Vec<String> {
    let students = super::defend::students(lab).into_iter().map(|(student, _)| student);
    [CLEAN.to_owned(), BACKDOORED.to_owned()].into_iter().chain(students).collect()
}

/// The features of one model, in a stage of its own: another probe finds them done.
fn extract_features(lab: &mut Lab, model: &str) -> Result<()> {
    let encoder = if model == UNTRAINED {
        serde_json::to_string(&lab.experiment.pretrain.encoder)?
    } else {
        lab.artefact(&encoder_file(model))?
    };
    let poison = &lab.experiment.poison;
    let inputs = lab.inputs(&(
        model,
        encoder,
        &lab.experiment.data,
        (lab.attack.val.trigger.hash(), &poison.val_place, poison.val_alpha),
        &lab.labelled,
        lab.experiment.seed,
    ))?;
    let files = features_files(model);
    let artefacts = files.each_ref().map(String::as_str);
    lab.stage(&format!("features {model}"), inputs, &artefacts, |lab, _| {
        let lab = &*lab;
        let Lab { experiment, splits, device, .. } = lab;
        let config = &experiment.pretrain;
        let encoder = if model == UNTRAINED {
            initial_encoder(config, experiment.seed, device)
        } else {
            load_encoder(&config.encoder, &lab.folder.join(&encoder_file(model)), device)?
        };
        lab.folder.make(&format!("{model}/features"))?;
        let sets: [SampleSet; 3] =
            [labelled(lab), splits.prepared(&splits.eval), lab.patched(&splits.eval)];
        for (file, set) in files.iter().zip(sets) {
            let features = extract(&encoder, &set, device)?;
            lab.folder.write(file, &features.to_bytes()?)?;
        }
        Ok(())
    })
}

/// Scores of one model, and its predictions on the patched images.
struct Probed {
    scores: BTreeMap<String, Scores>,
    truth: Vec<u32>,
    patched: Vec<u32>,
}

fn probe(lab: &Lab, models: &[String]) -> Result<()> {
    let Lab { experiment, splits, .. } = lab;
    let target = lab.attack.target;
    let mut probed = BTreeMap::new();
    for model in models {
        eprintln!("probe: {model}");
        let (probe, result) = probe_one(lab, model)?;
        probe.save(&lab.folder.join(&probe_file(model)))?;
        probed.insert(model.as_str(), result);
    }
    let missing = || anyhow!("a model was not probed");
    let clean = probed.get(CLEAN).ok_or_else(missing)?;
    let backdoored = probed.get(BACKDOORED).ok_or_else(missing)?;
    let scores = RunScores {
        name: experiment.name.clone(),
        method: experiment.pretrain.method.settings().name().into(),
        target,
        classes: splits.classes.len() as u32,
        seed: experiment.seed,
        eval: experiment.data.eval(),
        images: splits.eval.labels.len(),
        labels: lab.labelled.1,
        poison: lab.attack.plan.rates(),
        net: Paired::of(&clean.truth, &backdoored.patched, &clean.patched, target),
        models: probed.into_iter().map(|(model, p)| (model.into(), p.scores)).collect(),
    };
    let mut text = serde_json::to_string_pretty(&scores)?;
    text.push('\n');
    lab.folder.write(SCORES, text.as_bytes())
}

fn probe_one(lab: &Lab, model: &str) -> Result<(LinearProbe, Probed), ProbeError> {
    let Lab { experiment, splits, device, .. } = lab;
    let read = |set| Features::read(&lab.folder.join(&features_file(model, set)));
    let labelled = read(LABELLED)?;
    let classes = splits.classes.len();
    let probe = LinearProbe::fit(&experiment.probe, &labelled, classes, experiment.seed, device);
    let (clean, patched) = (read(CLEAN)?, read(PATCHED)?);
    let target = lab.attack.target;
    let score = |predicted: &[u32]| Scores::of(&clean.labels, predicted, target);
    let predicted = probe.predict(&patched);
    let scores = BTreeMap::from([
        (CLEAN.into(), score(&probe.predict(&clean))),
        (PATCHED.into(), score(&predicted)),
    ]);
    let probed = Probed { scores, truth: clean.labels, patched: predicted };
    Ok((probe, probed))
}
