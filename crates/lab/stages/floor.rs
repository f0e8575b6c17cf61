//! What a victim must reach on clean images to be worth attacking: a published accuracy of the same data set and
//! method, or else that of the same probe on raw pixels.

use anyhow::Result;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use ssl_backdoor_probe::{Features, LinearProbe, Scores, extract_by};

use super::inputs::Inputs;
use super::pretrain::images;
use super::{Lab, probe};
use crate::published::Published;
use crate::scores::Expected;

pub(super) const FLOOR: &str = "floor.json";
/// Above this side a probe on raw pixels has more weights than it is worth.
const LARGEST: u32 = 64;

#[derive(Serialize, Deserialize)]
struct Floor {
    low: f64,
    source: String,
}

/// Finds the floor, once for a run.
pub(super) fn stage(lab: &mut Lab) -> Result<()> {
    let prints = &lab.splits.fingerprint;
    let inputs = Inputs::of(lab)
        .with("data", &probe::kind(&lab.experiment.data)?)?
        .with("data.size", &lab.experiment.data.size())?
        .with("training images", &prints.train)?
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
    let method = experiment.pretrain.method.settings().name();
    let data = probe::kind(&experiment.data)?;
    if let Some((low, source)) = Published::read()?.least(&data, method, labelled.share) {
        return Ok(Some(Floor { low, source: source.into() }));
    }
    if experiment.data.size() > LARGEST {
        return Ok(None);
    }
    let pixels = |set| -> Result<Features> {
        let flat = |images: Tensor<4>| vec![images.flatten::<2>(1, 3)];
        let mut all = extract_by(&set, &lab.device, flat)?;
        Ok(all.swap_remove(0))
    };
    let train = pixels(images(lab, &labelled.ids))?;
    let eval = pixels(lab.splits.prepared(&lab.splits.eval))?;
    let classes = lab.splits.classes.len();
    let probe = LinearProbe::fit(&experiment.probe, &train, classes, experiment.seed, &lab.device);
    let low = Scores::of(&eval.labels, &probe.predict(&eval), None).acc;
    Ok(Some(Floor { low, source: "the same probe on raw pixels".into() }))
}

/// The floor of the run, and whether the clean twin with the accuracy `acc` stays below it.
pub(super) fn expected(lab: &Lab, acc: Option<f64>) -> Result<Option<Expected>> {
    let floor: Option<Floor> = serde_json::from_slice(&std::fs::read(lab.path(FLOOR))?)?;
    Ok(floor.zip(acc).map(|(Floor { low, source }, acc)| Expected {
        low,
        source,
        under_trained: acc < low,
    }))
}
