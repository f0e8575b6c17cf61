//! What a victim must reach on clean images to be worth attacking: an accuracy that was published of the same method,
//! data set, share of labels and probe, or else that of a probe on raw pixels.

use anyhow::Result;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use ssl_backdoor_probe::{
    Features, ProbeConfig, ProbeError, ProbeKind, Protocol, Scores, extract_by,
};

use super::inputs::Inputs;
use super::pretrain::images;
use super::{Lab, Unified, probe};
use crate::published::{Measured, Published};
use crate::scores::Expected;

pub(super) const FLOOR: &str = "floor.json";
/// Above this side a probe on raw pixels has more weights than it is worth.
const LARGEST: u32 = 64;

#[derive(Serialize, Deserialize)]
struct Floor {
    /// What the clean twin should reach, and where that comes from.
    low: f64,
    source: String,
    /// What a probe on raw pixels reaches.
    raw_pixels: Option<f64>,
}

/// Finds the floor, once for a run.
pub(super) fn stage(lab: &mut Lab) -> Result<()> {
    let prints = &lab.splits.fingerprint;
    let inputs = Inputs::of(lab)
        .with("data", &probe::kind(&lab.experiment.data)?)?
        .with("data.size", &lab.experiment.data.size())?
        .with("images that may carry labels", &prints.labelled)?
        .with("scored images", &prints.eval)?
        .with("probe", &lab.experiment.probe)?
        .with("method", &lab.experiment.pretrain.method.settings().name())?
        .with("labelled images", &lab.labelled[0])?
        .with("seed", &lab.experiment.seed)?;
    lab.stage("floor", &inputs, &[FLOOR], |lab, _| {
        let floor = find(lab)?;
        lab.folder.write(FLOOR, &serde_json::to_vec_pretty(&floor)?)
    })
}

fn find(lab: &Lab) -> Result<Option<Floor>> {
    let (experiment, labelled) = (&lab.experiment, &lab.labelled[0]);
    let ProbeConfig { kind, protocol, stage, .. } = experiment.probe;
    let size = experiment.data.size();
    let raw_pixels = (size <= LARGEST).then(|| raw_pixels(lab)).transpose()?;
    if kind == ProbeKind::Linear && stage.is_none() {
        let (data, labels) = (&probe::kind(&experiment.data)?, labelled.share);
        let method = experiment.pretrain.method.settings().name();
        let published = Published::read()?;
        let measured = Measured { data, size, labels, protocol };
        if let Some((low, source)) = published.least(method, &measured) {
            return Ok(Some(Floor { low, source: source.into(), raw_pixels }));
        }
    }
    let source = match (kind, protocol) {
        (ProbeKind::Linear, Protocol::Paper) => "the unified linear probe on raw pixels",
        _ => "the same probe on raw pixels",
    };
    Ok(raw_pixels.map(|low| Floor { low, source: source.into(), raw_pixels: Some(low) }))
}

/// Accuracy of the probe on raw pixels, in percent.
fn raw_pixels(lab: &Lab) -> Result<f64> {
    let (experiment, labelled) = (&lab.experiment, &lab.labelled[0]);
    let pixels = |set| -> Result<Features> {
        let flat = |images: Tensor<4>| vec![images.flatten::<2>(1, 3)];
        let all = extract_by(&set, &lab.device, flat)?;
        Ok(all.into_iter().next().ok_or(ProbeError::Empty { what: "images" })?)
    };
    let train = pixels(images(lab, &labelled.ids))?;
    let clean = pixels(lab.splits.prepared(&lab.splits.eval))?;
    let truth = clean.labels.clone();
    let classes = lab.splits.classes.len();
    // A method's own probe reads an encoder; pixels are read by the unified rules.
    let config = ProbeConfig { stage: None, ..experiment.probe.clone() };
    let readers = Unified::all(&config, experiment.seed);
    let reader = readers.first().ok_or(ProbeError::Empty { what: "probes" })?;
    // There is no trigger here: a single image stands for the patched ones.
    let one = clean.rows(&[0])?;
    let eval = [clean, one];
    let read = reader.read(&config, &train, &eval, classes, None, &lab.device)?;
    Ok(Scores::of(&truth, &read.predicted[0], None)?.acc)
}

/// The floor of the run and whether the clean twin with the accuracy `acc` stays below it; and the accuracy of a probe on
/// raw pixels.
pub(super) fn expected(lab: &Lab, acc: Option<f64>) -> Result<(Option<Expected>, Option<f64>)> {
    let floor: Option<Floor> = serde_json::from_slice(&std::fs::read(lab.path(FLOOR))?)?;
    let raw_pixels = floor.as_ref().and_then(|floor| floor.raw_pixels);
    let expected = floor.zip(acc).map(|(Floor { low, source, .. }, acc)| Expected {
        low,
        source,
        under_trained: acc < low,
    });
    Ok((expected, raw_pixels))
}
