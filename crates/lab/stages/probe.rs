//! Stage 5b: every reading of the features: linear probes for each share of labels and each seed, nearest
//! neighbours; `scores.json`, and for the headline the confusion matrices.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde::Serialize;
use ssl_backdoor_probe::{
    Confusion, Features, LinearProbe, Paired, ProbeConfig, ProbeKind, Scores, Vote, knn,
    reference_csv,
};

use super::features::{self, Extracted};
use super::{Lab, Labelled, floor, poison};
use crate::scores::{BACKDOORED, BySet, CLEAN, PATCHED, Reading, RunScores, UNTRAINED};

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
    let inputs = lab.inputs(&(
        &lab.experiment,
        lab.attack.target,
        lab.artefact(poison::LEDGER)?,
        lab.artefact(floor::FLOOR)?,
        extracted,
    ))?;
    let linear = lab.experiment.probe.kind == ProbeKind::Linear;
    let mut artefacts = vec![SCORES.to_owned()];
    for model in &models {
        artefacts.extend(confusion_files(model));
        artefacts.extend(linear.then(|| probe_file(model)));
    }
    let artefacts: Vec<&str> = artefacts.iter().map(String::as_str).collect();
    lab.stage("probe", inputs, &artefacts, |lab, _| probe(lab, &models))
}

/// What reads the features of every model, and from which labels.
#[derive(Clone, Copy)]
struct Reader<'a> {
    how: How,
    labelled: &'a Labelled,
}

#[derive(Clone, Copy)]
enum How {
    Linear { seed: u64 },
    Knn { k: usize, vote: Vote },
}

impl How {
    fn name(self, stage: Option<usize>) -> String {
        let name = match self {
            Self::Linear { .. } => "linear".to_owned(),
            Self::Knn { k, vote: Vote::Majority } => format!("knn-{k}"),
            Self::Knn { k, vote: Vote::Weighted { .. } } => format!("knn-{k}-weighted"),
        };
        stage.map_or(name.clone(), |stage| format!("{name}, stage {stage}"))
    }
}

/// All readings of the config; the headline's comes first.
fn readers<'a>(config: &ProbeConfig, labelled: &'a [Labelled], seed: u64) -> Vec<Reader<'a>> {
    let linear = (0..config.seeds).map(|i| How::Linear { seed: seed.wrapping_add(i) });
    let knn = config.k.iter().map(|&k| How::Knn { k, vote: config.vote() });
    let hows: Vec<How> = match config.kind {
        ProbeKind::Linear => linear.chain(knn).collect(),
        ProbeKind::Knn => knn.collect(),
    };
    let of = |labelled| hows.iter().map(move |&how| Reader { how, labelled });
    labelled.iter().flat_map(of).collect()
}

/// The `kind` of a table of the config.
pub(super) fn kind(table: &impl Serialize) -> Result<String> {
    let value = serde_json::to_value(table)?;
    Ok(value["kind"].as_str().unwrap_or_default().to_owned())
}

/// Predictions of one reader on the clean and on the patched images.
type Predicted = [Vec<u32>; 2];

fn probe(lab: &Lab, models: &[String]) -> Result<()> {
    let Lab { experiment, splits, .. } = lab;
    let readers = readers(&experiment.probe, &lab.labelled, experiment.seed);
    let mut truth = Vec::new();
    // Predictions by model, one for each reader.
    let mut predicted: BTreeMap<&str, Vec<Predicted>> = BTreeMap::new();
    for model in models {
        eprintln!("probe: {model}");
        let extracted = Extracted::read(lab, model)?;
        truth.clone_from(&extracted.eval[0].labels);
        let mut all = Vec::new();
        for (i, reader) in readers.iter().enumerate() {
            all.push(read_out(lab, &extracted, reader, (i == 0).then_some(model))?);
        }
        write_confusion(lab, model, &truth, &all[0])?;
        predicted.insert(model, all);
    }
    let readings: Vec<Reading> = (0..readers.len())
        .map(|i| reading(lab, readers[i], &truth, |model| predicted.get(model).map(|p| &p[i])))
        .collect::<Result<_>>()?;
    let headline = readings[0].clone();
    let net = headline.net;
    let target = lab.attack.target;
    let clean = headline.models.get(CLEAN).and_then(|sets| sets.get(CLEAN));
    let train_images = splits.train.labels.len();
    let config = &experiment.pretrain;
    let scores = RunScores {
        name: experiment.name.clone(),
        method: config.method.settings().name().into(),
        data: kind(&experiment.data)?,
        target,
        target_name: target.and_then(|t| splits.classes.get(t as usize).cloned()),
        trigger: experiment.poison.trigger.to_string(),
        classes: splits.classes.len() as u32,
        seed: experiment.seed,
        eval: experiment.data.eval(),
        images: truth.len(),
        steps: train_images / config.batch * config.epochs,
        train_images,
        labels: headline.labels,
        poison: lab.attack.plan.rates(),
        expected: floor::expected(lab, clean.map(|scores| scores.acc))?,
        models: headline.models,
        net_asr: net.net_asr,
        net_asr_ci: net.net_asr_ci,
        patched_drop: net.patched_drop,
        patched_drop_ci: net.patched_drop_ci,
        mcnemar_p: net.mcnemar_p,
        probes: readings,
        config_hash: experiment.hash()?,
        manifest_hash: lab.manifest.figures_hash()?,
    };
    let mut text = serde_json::to_string_pretty(&scores)?;
    text.push('\n');
    lab.folder.write(SCORES, text.as_bytes())
}

/// Predictions of one reader; the probe is kept in the folder of the model `keep`.
fn read_out(
    lab: &Lab,
    extracted: &Extracted,
    reader: &Reader<'_>,
    keep: Option<&String>,
) -> Result<Predicted> {
    let classes = lab.splits.classes.len();
    let labelled = extracted.labelled(reader.labelled);
    Ok(match reader.how {
        How::Linear { seed } => {
            let config = &lab.experiment.probe;
            let probe = LinearProbe::fit(config, &labelled, classes, seed, &lab.device);
            if let Some(model) = keep {
                probe.save(&lab.folder.join(&probe_file(model)))?;
            }
            extracted.eval.each_ref().map(|features| probe.predict(features))
        }
        How::Knn { k, vote } => {
            let nearest =
                |eval: &Features| knn(&labelled, eval, classes, &[k], vote, &lab.device).concat();
            extracted.eval.each_ref().map(nearest)
        }
    })
}

/// The scores of every model by one reader.
fn reading<'p>(
    lab: &Lab,
    reader: Reader<'_>,
    truth: &[u32],
    predicted: impl Fn(&str) -> Option<&'p Predicted>,
) -> Result<Reading> {
    let target = lab.attack.target;
    let mut models = BTreeMap::new();
    let all = [UNTRAINED, CLEAN, BACKDOORED].map(String::from);
    for model in all.into_iter().chain(super::defend::models(lab)) {
        if let Some(predicted) = predicted(&model) {
            let scores = |predicted: &[u32]| Scores::of(truth, predicted, target);
            let sets = [CLEAN, PATCHED].map(String::from).into_iter();
            let sets: BySet = sets.zip(predicted.each_ref().map(|p| scores(p))).collect();
            models.insert(model, sets);
        }
    }
    let patched =
        |model| predicted(model).map(|p| &p[1]).ok_or_else(|| anyhow!("{model} was not probed"));
    let seed = match reader.how {
        How::Linear { seed } => Some(seed),
        How::Knn { .. } => None,
    };
    Ok(Reading {
        probe: reader.how.name(lab.experiment.probe.stage),
        labels: reader.labelled.share,
        seed,
        net: Paired::of(truth, patched(BACKDOORED)?, patched(CLEAN)?, target),
        models,
    })
}

fn write_confusion(lab: &Lab, model: &str, truth: &[u32], predicted: &Predicted) -> Result<()> {
    let classes = &lab.splits.classes;
    let [clean, patched] =
        predicted.each_ref().map(|predicted| Confusion::of(truth, predicted, classes.len()));
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
