//! The accuracy that a clean twin is expected to reach: a published one for the same method, data set, label share and
//! probe, or otherwise that of a probe on raw pixels.

use anyhow::Result;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use ssl_backdoor_probe::{
    Features, ProbeConfig, ProbeError, ProbeKind, Protocol, Scores, extract_by,
};

use super::unified::{Task, UnifiedProbe};
use crate::record::{Artefact, Expected, Measured, Published, StageId};
use crate::run::lab::Lab;

/// Largest image side for a probe on raw pixels, which has too many weights for larger images.
const LARGEST: u32 = 64;

#[derive(Serialize, Deserialize)]
struct Baseline {
    /// The expected accuracy of the clean twin, and its source.
    low: f64,
    source: String,
    /// The accuracy of a probe on raw pixels.
    raw_pixels: Option<f64>,
}

/// Finds the baseline, once for a run.
pub(super) fn stage(lab: &mut Lab) -> Result<()> {
    let prints = &lab.splits.fingerprint;
    let inputs = lab
        .inputs()
        .with("data", &lab.experiment.data.kind())?
        .with("data.size", &lab.experiment.data.size())?
        .with("images that may carry labels", &prints.labelled)?
        .with("scored images", &prints.eval)?
        .with("probe", &lab.experiment.probe)?
        .with("method", &lab.experiment.pretrain.method.settings().name())?
        .with("labelled images", &lab.labelled[0])?
        .with("seed", &lab.experiment.seed)?;
    lab.stage(&StageId::Baseline, &inputs, &[Artefact::Baseline], |lab, _| {
        let baseline = find(lab)?;
        lab.folder.write(Artefact::Baseline, &serde_json::to_vec_pretty(&baseline)?)
    })
}

fn find(lab: &Lab) -> Result<Option<Baseline>> {
    let (experiment, labelled) = (&lab.experiment, &lab.labelled[0]);
    let ProbeConfig { kind, protocol, stage, .. } = experiment.probe;
    let size = experiment.data.size();
    let raw_pixels = (size <= LARGEST).then(|| raw_pixels(lab)).transpose()?;
    if kind == ProbeKind::Linear && stage.is_none() {
        let (data, labels) = (experiment.data.kind(), labelled.share);
        let method = experiment.pretrain.method.settings().name();
        let published = Published::read()?;
        let measured = Measured { data, size, labels, protocol };
        if let Some((low, source)) = published.least(method, &measured) {
            return Ok(Some(Baseline { low, source: source.into(), raw_pixels }));
        }
    }
    let source = match (kind, protocol) {
        (ProbeKind::Linear, Protocol::Paper) => "the unified linear probe on raw pixels",
        _ => "the same probe on raw pixels",
    };
    Ok(raw_pixels.map(|low| Baseline { low, source: source.into(), raw_pixels: Some(low) }))
}

/// Accuracy of the probe on raw pixels, in percent.
fn raw_pixels(lab: &Lab) -> Result<f64> {
    let (experiment, labelled) = (&lab.experiment, &lab.labelled[0]);
    let pixels = |set| -> Result<Features> {
        let flat = |images: Tensor<4>| vec![images.flatten::<2>(1, 3)];
        let all = extract_by(&set, &lab.device, flat)?;
        Ok(all.into_iter().next().ok_or(ProbeError::Empty { what: "images" })?)
    };
    let train = pixels(lab.images(&labelled.ids))?;
    let clean = pixels(lab.splits.prepared(&lab.splits.eval))?;
    let truth = clean.labels.clone();
    let classes = lab.splits.classes.len();
    // A method's own probe needs an encoder, so raw pixels use the unified probe.
    let config = ProbeConfig { stage: None, ..experiment.probe.clone() };
    let probes = UnifiedProbe::all(&config, experiment.seed);
    let probe = probes.first().ok_or(ProbeError::Empty { what: "probes" })?;
    // There is no trigger here: a single image is passed as the patched images.
    let one = clean.rows(&[0])?;
    let task = Task { labelled: &train, eval: &[clean, one], classes, device: &lab.device };
    let run = probe.run(&config, task, None)?;
    Ok(Scores::of(&truth, &run.predicted[0], None)?.acc)
}

/// The baseline of the run and whether the clean twin with the accuracy `acc` is below it, and the accuracy of a
/// probe on raw pixels.
pub(super) fn expected(lab: &Lab, acc: Option<f64>) -> Result<(Option<Expected>, Option<f64>)> {
    let baseline: Option<Baseline> =
        serde_json::from_slice(&std::fs::read(lab.path(&Artefact::Baseline))?)?;
    let raw_pixels = baseline.as_ref().and_then(|baseline| baseline.raw_pixels);
    let expected = baseline.zip(acc).map(|(Baseline { low, source, .. }, acc)| Expected {
        low,
        source,
        under_trained: acc < low,
    });
    Ok((expected, raw_pixels))
}
