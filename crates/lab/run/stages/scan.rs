//! Stage 5c: scans without knowledge of the attack: PatchSearch on the poisoned training images, and the encoder scans on
//! both models. It runs if the config has a table `[scan]`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use ssl_backdoor_data::augment::Filter;
use ssl_backdoor_data::{InMemory, Normalization, SampleSet, resized_set};
use ssl_backdoor_defend::{ModelId, Role};
use ssl_backdoor_images::png;
use ssl_backdoor_model::Encoder;
use ssl_backdoor_scan::{
    EncoderScans, NullScore, Nulls, PatchSearch, Scan, ScanConfig, ScanError, Setting, Subject,
};

use super::{encoders, poison};
use crate::record::{
    Artefact, DataScan, EncoderScan, RunScans, SCHEMA, StageId, json_text, null_training,
    remove_from,
};
use crate::run::lab::Lab;
use crate::run::progress;

/// Prepared images are kept in memory if they take at most this many bytes.
const IN_MEMORY: usize = 1 << 29;
/// The scanned models.
const MODELS: [Role<'static>; 2] = [Role::CLEAN, Role::BACKDOORED];

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let Some(config) = lab.experiment.scan.clone() else { return Ok(()) };
    let mut encoders = Vec::new();
    for model in MODELS {
        encoders.push(lab.artefact(&Artefact::Encoder(model.into()))?);
    }
    let prints = &lab.splits.fingerprint;
    let mut inputs = lab
        .inputs()
        .with("scan", &ScanConfig { null: None, ..config.clone() })?
        .with("training images", &prints.train)?
        .with("evaluation images", &prints.eval)?
        .with("poisoned images", &poison::outcome(lab)?)?
        .with("encoders", &encoders)?
        .with("seed", &lab.experiment.seed)?;
    if let Some(folder) = &config.null {
        inputs = inputs.with("null scores", &Nulls::all(folder)?)?;
    }
    lab.stage(&StageId::Scan, &inputs, &[Artefact::Scan], |lab, _| {
        let mut found = BTreeMap::new();
        for model in MODELS {
            found.insert(ModelId::from(model), encoder(lab, &config, model)?);
        }
        let (data, data_refused) =
            match data(lab, &config, &encoders::load(lab, &Role::BACKDOORED.into())?) {
                Ok(data) => (Some(data), None),
                Err(error) if error.says_nothing() => (None, Some(error.to_string())),
                Err(error) => return Err(error.into()),
            };
        let scans = RunScans { schema: SCHEMA, data, data_refused, encoders: found };
        let text = json_text(&scans)?;
        lab.folder.write(Artefact::Scan, text.as_bytes())
    })
}

/// The encoder scans on a model of the run.
fn encoder(lab: &Lab, config: &ScanConfig, model: Role<'_>) -> Result<EncoderScan> {
    let (experiment, scans) = (&lab.experiment, config.encoder());
    let net = encoders::load(lab, &model.into())?;
    let watch = progress::watch();
    let setting = Setting {
        device: &lab.device,
        seed: config.seed,
        normalization: Normalization::default(),
        watch: &watch,
    };
    let images = lab.splits.prepared(&lab.splits.eval);
    let found = scans.scan(&net, &images, &setting)?;
    let shown = scans.shown(&images, config.seed)?;
    let print = &lab.splits.fingerprint.train;
    let training = null_training(&experiment.pretrain, print, experiment.seed)?;
    let hash = lab.artefact(&Artefact::Encoder(model.into()))?;
    let own = scans.expected(&encoders::header(lab), (hash, config.seed), &shown, training);
    let own = NullScore { scores: found.scores(), ..own };
    let nulls = match &config.null {
        Some(folder) => Nulls::read(folder, &own)?,
        None => Nulls::default(),
    };
    for (path, reason) in &nulls.left_out {
        eprintln!("left out: {}: {reason}", path.display());
    }
    lab.folder.make(ModelId::from(model))?;
    for (scan, findings) in &found.found {
        let file = Artefact::Trigger(model.into(), (*scan).to_owned());
        if let Some(strongest) = findings.evidence.first() {
            let picture = png(&strongest.picture).context("cannot encode a trigger")?;
            lab.folder.write(file, &picture)?;
        } else {
            remove_from(lab.folder.path(), &[file])?;
        }
    }
    Ok(EncoderScan::of(&found, own, &nulls))
}

/// Checks before training that there are enough images and that the null scores can be read.
pub(super) fn check(lab: &Lab) -> Result<(), ScanError> {
    let Some(config) = &lab.experiment.scan else { return Ok(()) };
    if let Some(folder) = &config.null {
        Nulls::all(folder)?;
    }
    PatchSearch::check_count(lab.splits.train.labels.len())?;
    EncoderScans::check_count(lab.splits.eval.labels.len())
}

/// PatchSearch on the training images with the encoder trained on them.
fn data(lab: &Lab, config: &ScanConfig, net: &Encoder) -> Result<DataScan, ScanError> {
    let (size, watch) = (lab.experiment.data.size(), progress::watch());
    let prepared = resized_set(lab.poisoned_train(), size, Filter::Bilinear, true);
    let bytes = prepared.len().saturating_mul(3 * size as usize * size as usize);
    let images: SampleSet = match bytes <= IN_MEMORY {
        true => Arc::new(InMemory::read(&prepared, &watch)?),
        false => prepared,
    };
    let setting = Setting {
        device: &lab.device,
        seed: lab.experiment.seed,
        normalization: Normalization::default(),
        watch: &watch,
    };
    let subject = Subject::Set { images: &images, encoder: net };
    let findings = PatchSearch { config: config.data.clone() }.scan(subject, &setting)?;
    let poisoned: HashSet<u64> = lab.attack.plan.ids().collect();
    Ok(DataScan::of(&findings, images.len(), Some(&poisoned)))
}
