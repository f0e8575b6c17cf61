//! Stage 4: probe the untrained encoder, the clean twin, the backdoored model and its distilled
//! students; `scores.json`.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use ssl_backdoor_model::{ResNet, load_encoder};
use ssl_backdoor_probe::{LinearProbe, ProbeError, Scores, extract, net_asr};
use ssl_backdoor_ssl::initial_encoder;

use super::pretrain::{encoder_file, labelled};
use super::{Lab, poison};
use crate::scores::{BACKDOORED, CLEAN, PATCHED, RunScores, UNTRAINED};

pub(super) const SCORES: &str = "scores.json";

fn probe_file(model: &str) -> String {
    format!("{model}/probe.safetensors")
}

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let models = trained_models(lab);
    let encoders = models.iter().map(|model| lab.artefact(&encoder_file(model)));
    let inputs = lab.inputs(&(
        &lab.experiment.name,
        &lab.experiment.data,
        &lab.experiment.poison,
        &lab.experiment.pretrain,
        &lab.experiment.probe,
        lab.experiment.seed,
        lab.artefact(poison::LEDGER)?,
        encoders.collect::<Result<Vec<_>>>()?,
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

/// Scores of one model, and its predictions on the patched images.
struct Probed {
    scores: BTreeMap<String, Scores>,
    truth: Vec<u32>,
    patched: Vec<u32>,
}

fn probe(lab: &Lab, models: &[String]) -> Result<()> {
    let Lab { experiment, splits, .. } = lab;
    let config = &experiment.pretrain;
    let target = experiment.poison.target;
    eprintln!("probe: {UNTRAINED}");
    let untrained = initial_encoder(config, experiment.seed, &lab.device);
    let mut probed = BTreeMap::from([(UNTRAINED, probe_one(lab, &untrained)?.1)]);
    for model in models {
        eprintln!("probe: {model}");
        let file = lab.folder.join(&encoder_file(model));
        let encoder = load_encoder(&config.encoder, &file, &lab.device)?;
        let (probe, result) = probe_one(lab, &encoder)?;
        probe.save(&lab.folder.join(&probe_file(model)))?;
        probed.insert(model, result);
    }
    let missing = || anyhow!("a model was not probed");
    let clean = probed.get(CLEAN).ok_or_else(missing)?;
    let backdoored = probed.get(BACKDOORED).ok_or_else(missing)?;
    let scores = RunScores {
        name: experiment.name.clone(),
        method: config.method.name().into(),
        target: Some(target),
        classes: experiment.data.classes(),
        seed: experiment.seed,
        eval: experiment.data.eval(),
        images: splits.eval.len(),
        labels: experiment.probe.headline(),
        poison: lab.plan.rates(),
        net: net_asr(&clean.truth, &backdoored.patched, &clean.patched, target),
        models: probed.into_iter().map(|(model, p)| (model.into(), p.scores)).collect(),
    };
    let mut text = serde_json::to_string_pretty(&scores)?;
    text.push('\n');
    lab.folder.write(SCORES, text.as_bytes())
}

fn probe_one(lab: &Lab, encoder: &ResNet) -> Result<(LinearProbe, Probed), ProbeError> {
    let Lab { experiment, splits, device, .. } = lab;
    let labelled = extract(encoder, &labelled(lab), device)?;
    if labelled.labels.is_empty() {
        let of = |class| splits.train_labels.iter().filter(|(_, c)| *c == class).count();
        let largest = (0..experiment.data.classes()).map(of).max().unwrap_or(0);
        return Err(ProbeError::NoLabels { fraction: experiment.probe.headline(), largest });
    }
    let classes = splits.classes.len();
    let probe = LinearProbe::fit(&experiment.probe, &labelled, classes, experiment.seed, device);
    let clean = extract(encoder, &splits.eval, device)?;
    let patched = extract(encoder, &lab.patched(&splits.eval), device)?;
    let target = Some(experiment.poison.target);
    let score = |predicted: &[u32]| Scores::of(&clean.labels, predicted, target);
    let predicted = probe.predict(&patched);
    let scores = BTreeMap::from([
        (CLEAN.into(), score(&probe.predict(&clean))),
        (PATCHED.into(), score(&predicted)),
    ]);
    let probed = Probed { scores, truth: clean.labels, patched: predicted };
    Ok((probe, probed))
}
