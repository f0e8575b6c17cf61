//! Stage 5a: the features of each model, extracted once and kept for every probe, seed and label share.

use std::collections::HashMap;

use anyhow::Result;
use burn::tensor::Device;
use ssl_backdoor_data::{Normalization, SampleSet};
use ssl_backdoor_defend::{ModelId, Role};
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_model::Encoder;
use ssl_backdoor_probe::{Features, ProbeConfig, ProbeError, extract_normalized};

use super::defend::{at_test_time, image_hook};
use super::encoders;
use crate::record::{Artefact, FeaturesOf, Images, StageId};
use crate::run::lab::Lab;
use crate::run::labels::Labelled;
use crate::run::progress;

/// The largest labelled subset. Subsets by share are nested, so its features include those of all.
fn largest(lab: &Lab) -> &Labelled {
    let by_size = lab.labelled.iter().max_by_key(|labelled| labelled.ids.len());
    by_size.unwrap_or(&lab.labelled[0])
}

/// Extracts the features of one model, in a stage of its own.
pub(super) fn stage(lab: &mut Lab, model: &ModelId) -> Result<()> {
    let network = if model.role() == Role::UNTRAINED {
        serde_json::to_value(lab.experiment.pretrain.encoder)?
    } else {
        lab.artefact(&Artefact::Encoder(model.clone()))?.into()
    };
    let poison = &lab.experiment.poison;
    let prints = &lab.splits.fingerprint;
    let mut inputs = lab
        .inputs()
        .with("model", model)?
        .with("network", &network)?
        .with("data.size", &lab.experiment.data.size())?
        .with("images that may carry labels", &prints.labelled)?
        .with("scored images", &prints.eval)?
        .with("trigger", &lab.attack.val.perturbation.hash())?
        .with("poison.val_place", &poison.val_place)?
        .with("poison.val_alpha", &poison.val_alpha)?
        .with("poison.recompress", &poison.recompress)?
        .with("labelled images", largest(lab))?
        .with("probe.stage", &lab.experiment.probe.stage)?
        .with("seed", &lab.experiment.seed)?;
    if let Some(hook) = image_hook(lab, model) {
        inputs = inputs.with("defence at test time", &hook)?;
    }
    let files = Artefact::features(model);
    lab.stage(&StageId::Features(model.clone()), &inputs, &files, |lab, _| {
        let lab = &*lab;
        let encoder = encoders::load(lab, model)?;
        lab.folder.make(format!("{model}/features"))?;
        let eval = &lab.splits.eval;
        let sets = [lab.images(&largest(lab).ids), lab.splits.prepared(eval), lab.patched(eval)];
        let sets: [SampleSet; 3] = sets.map(|set| at_test_time(lab, model, set));
        for (file, set) in files.iter().zip(sets) {
            let features = read_out(
                &lab.experiment.probe,
                &encoder,
                &set,
                &Normalization::default(),
                &lab.device,
            )?;
            lab.folder.write(file, &features.to_bytes()?)?;
        }
        Ok(())
    })
}

/// The features of the stage `probe.stage`, or the output without it.
pub(crate) fn read_out(
    config: &ProbeConfig,
    encoder: &Encoder,
    set: &SampleSet,
    normalization: &Normalization,
    device: &Device,
) -> Result<Features, ProbeError> {
    let one = |images| match config.stage {
        None => vec![encoder.forward(images)],
        Some(stage) => encoder.stages(images).into_iter().skip(stage - 1).take(1).collect(),
    };
    let stage = config.stage.unwrap_or_default();
    let allowed = "1 to the number of the encoder's stages";
    let none = || OutOfRange::new("stage", stage, allowed).into();
    let mut all = extract_normalized(set, normalization, device, &progress::watch(), one)?;
    all.pop().ok_or_else(none)
}

/// The features of one model, from its folder.
pub(super) struct Extracted {
    labelled: Features,
    /// Row by id. The features and [`Labelled::ids`] have the order of the training set.
    rows: HashMap<u64, usize>,
    /// Features of the evaluation images without and with trigger.
    pub(super) eval: [Features; 2],
}

impl Extracted {
    pub(super) fn read(lab: &Lab, model: &ModelId) -> Result<Self, ProbeError> {
        let read = |of| Features::read(&lab.folder.join(Artefact::Features(model.clone(), of)));
        let rows = largest(lab).ids.iter().enumerate().map(|(row, id)| (*id, row)).collect();
        let eval = [Images::Clean, Images::Patched].map(|images| read(FeaturesOf::Eval(images)));
        let [clean, patched] = eval;
        Ok(Self { labelled: read(FeaturesOf::Labelled)?, rows, eval: [clean?, patched?] })
    }

    /// The features of one labelled subset.
    ///
    /// # Errors
    /// A features file was changed after it was written.
    pub(super) fn labelled(&self, subset: &Labelled) -> Result<Features, ProbeError> {
        let rows: Vec<usize> =
            subset.ids.iter().filter_map(|id| self.rows.get(id).copied()).collect();
        self.labelled.rows(&rows)
    }
}
