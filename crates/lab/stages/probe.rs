//! Stage 5b: every reading of the features: linear probes for each share of labels and each seed, nearest
//! neighbours; `scores.json`, and for the headline the confusion matrices.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde::Serialize;
use ssl_backdoor_probe::{Confusion, Flow, Paired, ProbeKind, Protocol, Scores, reference_csv};

use super::features::{self, Extracted};
use super::inputs::Inputs;
use super::readers::{Predicted, Read, Reader, readers};
use super::{Lab, floor, neighbours, poison, trigger_size};
use crate::made_by::MadeBy;
use crate::scores::{BACKDOORED, BySet, CLEAN, PATCHED, Reading, RunScores, UNTRAINED};
use crate::trigger_size::TriggerSize;
use crate::versioned::SCHEMA;

pub(super) const SCORES: &str = "scores.json";

fn probe_file(model: &str) -> String {
    format!("{model}/probe.safetensors")
}

/// The confusion matrices of `model`: on clean images, on patched ones, and the reference's file of both.
fn confusion_files(model: &str) -> [String; 3] {
    ["confusion_clean.csv", "confusion_patched.csv", "conf_matrix.csv"]
        .map(|file| format!("{model}/{file}"))
}

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let mut models = vec![UNTRAINED.to_owned(), CLEAN.to_owned(), BACKDOORED.to_owned()];
    models.extend(super::defend::models(lab));
    floor::stage(lab)?;
    let mut extracted = Vec::new();
    for model in &models {
        features::stage(lab, model)?;
        for file in features::files(model) {
            extracted.push(lab.artefact(&file)?);
        }
    }
    let inputs = Inputs::of(lab)
        .with("config", &lab.experiment)?
        .with("poison.target", &lab.attack.target)?
        .with("poisoned images", &poison::outcome(lab)?)?
        .with("floor", &lab.artefact(floor::FLOOR)?)?
        .with("trigger size", &lab.artefact(trigger_size::FILE)?)?
        .with("features", &extracted)?;
    let config = &lab.experiment.probe;
    let linear = config.kind == ProbeKind::Linear && config.protocol == Protocol::Unified;
    let mut artefacts = vec![SCORES.to_owned()];
    for model in &models {
        artefacts.extend(confusion_files(model));
        artefacts.extend(linear.then(|| probe_file(model)));
    }
    let artefacts: Vec<&str> = artefacts.iter().map(String::as_str).collect();
    lab.stage("probe", &inputs, &artefacts, |lab, _| probe(lab, &models))
}

/// The `kind` of a table of the config.
pub(super) fn kind(table: &impl Serialize) -> Result<String> {
    let value = serde_json::to_value(table)?;
    Ok(value["kind"].as_str().unwrap_or_default().to_owned())
}

fn probe(lab: &Lab, models: &[String]) -> Result<()> {
    let Lab { experiment, splits, .. } = lab;
    let readers = readers(&experiment.probe, &lab.labelled, experiment.seed);
    let (mut truth, mut gathered) = (Vec::new(), BTreeMap::new());
    // What each reader says of each model.
    let mut read: BTreeMap<&str, Vec<Vec<Read>>> = BTreeMap::new();
    for model in models {
        eprintln!("probe: {model}");
        let extracted = Extracted::read(lab, model)?;
        truth.clone_from(&extracted.eval[0].labels);
        if let Some(share) = neighbours::gathered(lab, &extracted)? {
            gathered.insert(model.clone(), share);
        }
        let mut all = Vec::new();
        for (i, reader) in readers.iter().enumerate() {
            let file = probe_file(model);
            let keep = (i == 0).then_some(file.as_str());
            all.push(reader.read(lab, model, &extracted, keep)?);
        }
        read.insert(model, all);
    }
    let missing = || anyhow!("the clean twin was not probed");
    let clean = read.get(CLEAN).ok_or_else(missing)?;
    // A student has one classifier where its teacher's method has five: it stands beside each of them.
    let of = |model: &str, reader: usize, map: usize| -> Option<&Predicted> {
        let says = read.get(model)?.get(reader)?;
        Some(&says.get(map).or_else(|| says.first())?.predicted)
    };
    let mut order: Vec<(usize, usize)> = clean
        .iter()
        .enumerate()
        .flat_map(|(i, says)| (0..says.len()).map(move |map| (i, map)))
        .collect();
    let (reader, map) = (0, headline(&clean[0], &truth));
    order.swap(0, map);
    let mut readings = Vec::new();
    for &(reader, map) in &order {
        let (name, predicted) =
            (clean[reader][map].probe.clone(), |model: &str| of(model, reader, map));
        readings.push(reading(lab, models, readers[reader], name, &truth, predicted)?);
    }
    for model in models {
        if let Some(predicted) = of(model, reader, map) {
            write_confusion(lab, model, &truth, predicted)?;
        }
    }
    let headline = readings[0].clone();
    let net = headline.net;
    let target = lab.attack.target;
    let clean = headline.models.get(CLEAN).and_then(|sets| sets.get(CLEAN));
    let train_images = splits.train.labels.len();
    let config = &experiment.pretrain;
    let (expected, raw_pixels) = floor::expected(lab, clean.map(|scores| scores.acc))?;
    let mut made_by = lab.manifest.makers();
    let this = MadeBy::this(&experiment.device);
    if !made_by.contains(&this) {
        made_by.push(this);
    }
    let scores = RunScores {
        schema: SCHEMA,
        made_by,
        name: experiment.name.clone(),
        method: config.method.settings().name().into(),
        data: kind(&experiment.data)?,
        target,
        target_name: target.and_then(|t| splits.classes.get(t as usize).cloned()),
        trigger: experiment.poison.trigger.to_string(),
        classes: splits.classes.len() as u32,
        class_names: splits.classes.clone(),
        seed: experiment.seed,
        eval: experiment.data.eval(),
        images: truth.len(),
        steps: config.train.steps(train_images),
        train_images,
        labels: headline.labels,
        poison: lab.attack.plan.rates(),
        trigger_size: Some(TriggerSize::read(lab)?),
        left_out: splits.left_out.clone(),
        expected,
        raw_pixels,
        models: headline.models,
        net_asr: net.net_asr,
        net_asr_ci: net.net_asr_ci,
        patched_drop: net.patched_drop,
        patched_drop_ci: net.patched_drop_ci,
        mcnemar_p: net.mcnemar_p,
        flow: headline.flow,
        gathered,
        probes: readings,
        config_hash: experiment.hash()?,
        manifest_hash: lab.manifest.figures_hash()?,
    };
    let mut text = serde_json::to_string_pretty(&scores)?;
    text.push('\n');
    lab.folder.write(SCORES, text.as_bytes())
}

/// The map of the headline: the one on which the clean twin is best on clean images (protocol 3.4), of equals the
/// first.
fn headline(clean: &[Read], truth: &[u32]) -> usize {
    let right = |read: &Read| read.predicted[0].iter().zip(truth).filter(|(a, b)| a == b).count();
    let best = clean.iter().enumerate().rev().max_by_key(|(_, read)| right(read));
    best.map_or(0, |(map, _)| map)
}

/// The scores of every model by one reader.
fn reading<'p>(
    lab: &Lab,
    models: &[String],
    reader: Reader<'_>,
    probe: String,
    truth: &[u32],
    predicted: impl Fn(&str) -> Option<&'p Predicted>,
) -> Result<Reading> {
    let target = lab.attack.target;
    let mut scores = BTreeMap::new();
    for model in models {
        if let Some(predicted) = predicted(model) {
            let sets = [CLEAN, PATCHED].map(String::from).into_iter();
            let [clean, patched] = predicted;
            let of = [Scores::of(truth, clean, target)?, Scores::of(truth, patched, target)?];
            scores.insert(model.clone(), sets.zip(of).collect::<BySet>());
        }
    }
    let patched =
        |model| predicted(model).map(|p| &p[1]).ok_or_else(|| anyhow!("{model} was not probed"));
    let (backdoored, clean) = (patched(BACKDOORED)?, patched(CLEAN)?);
    Ok(Reading {
        probe,
        labels: reader.labelled.share,
        seed: reader.seed(),
        superseded: None,
        flow: Some(Flow::of(truth, backdoored, clean, target, lab.splits.classes.len())?),
        net: Paired::of(truth, backdoored, clean, target)?,
        models: scores,
    })
}

fn write_confusion(lab: &Lab, model: &str, truth: &[u32], predicted: &Predicted) -> Result<()> {
    let classes = &lab.splits.classes;
    let of = |predicted: &[u32]| Confusion::of(truth, predicted, classes.len());
    let (clean, patched) = (of(&predicted[0])?, of(&predicted[1])?);
    let name = format!("{}/{model}", lab.experiment.name);
    let texts = [
        clean.to_csv(classes),
        patched.to_csv(classes),
        reference_csv(&name, &lab.splits.name, classes, &clean, &patched),
    ];
    for (file, text) in confusion_files(model).iter().zip(texts) {
        lab.folder.write(file, text.as_bytes())?;
    }
    Ok(())
}
