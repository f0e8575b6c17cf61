//! Stage 2: the clean twin and the backdoored model. Same initial weights, order and augmentation
//! draws; only the poisoned pixels differ.

use std::sync::Arc;

use anyhow::Result;
use burn::tensor::Device;
use serde_json::{Map, Value};
use ssl_backdoor_data::augment::{MEAN, STD};
use ssl_backdoor_data::{SampleSet, Subset};
use ssl_backdoor_model::{Encoder, Preprocessing, save_encoder};
use ssl_backdoor_probe::{LinearProbe, ProbeError, Scores, extract};
use ssl_backdoor_ssl::{Training, pretrain};

use super::{Lab, poison};
use crate::scores::{BACKDOORED, CLEAN};

/// The encoder file of `model`, relative to the run folder.
pub(super) fn encoder_file(model: &str) -> String {
    format!("{model}/encoder.safetensors")
}

/// The training log of `model`, relative to the run folder.
pub(crate) fn metrics_file(model: &str) -> String {
    format!("{model}/metrics.jsonl")
}

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let sets = [(CLEAN, lab.splits.pretrain_set().clone()), (BACKDOORED, lab.poisoned_train())];
    for (model, set) in sets {
        let experiment = &lab.experiment;
        let ledger = lab.artefact(poison::LEDGER)?;
        let inputs = lab.inputs(&(
            model,
            &experiment.data,
            &experiment.poison,
            &experiment.pretrain,
            &experiment.probe,
            experiment.seed,
            ledger,
        ))?;
        let (encoder, metrics) = (encoder_file(model), metrics_file(model));
        lab.stage(&format!("pretrain {model}"), inputs, &[&encoder, &metrics], |lab, identity| {
            train(lab, model, set, identity)
        })?;
    }
    Ok(())
}

fn train(lab: &Lab, model: &str, set: SampleSet, identity: &str) -> Result<()> {
    let experiment = &lab.experiment;
    let folder = lab.folder.make(model)?;
    let size = experiment.data.size();
    let training = Training {
        set,
        seed: experiment.seed,
        device: &lab.device,
        workers: experiment.workers,
        folder: &folder,
        identity,
        label: model,
    };
    let every = experiment.probe.curve_every;
    let curve = Curve::new(lab);
    let encoder = pretrain(&experiment.pretrain, size, &training, &mut |encoder, epoch| {
        if every == 0 || !(epoch + 1).is_multiple_of(every) {
            return Ok(Map::new());
        }
        Ok(curve.point(lab, encoder, &lab.device)?)
    })?;
    save(lab, model, &encoder)
}

/// Writes the encoder file of `model`.
pub(super) fn save(lab: &Lab, model: &str, encoder: &Encoder) -> Result<()> {
    let experiment = &lab.experiment;
    let preprocessing = Preprocessing { size: experiment.data.size(), mean: MEAN, std: STD };
    let path = lab.folder.join(&encoder_file(model));
    save_encoder(encoder, &experiment.pretrain.encoder, &preprocessing, &path)?;
    Ok(())
}

/// The images of the attack's curve along the training: always the `dev` part, so that test images
/// are looked at once.
struct Curve {
    labelled: SampleSet,
    clean: SampleSet,
    patched: SampleSet,
}

impl Curve {
    fn new(lab: &Lab) -> Self {
        Self {
            labelled: labelled(lab),
            clean: lab.splits.prepared(&lab.splits.dev),
            patched: lab.patched(&lab.splits.dev),
        }
    }

    fn point(
        &self,
        lab: &Lab,
        encoder: &Encoder,
        device: &Device,
    ) -> Result<Map<String, Value>, ProbeError> {
        let Lab { experiment, splits, .. } = lab;
        let labelled = extract(encoder, &self.labelled, device)?;
        let classes = splits.classes.len();
        let probe =
            LinearProbe::fit(&experiment.probe, &labelled, classes, experiment.seed, device);
        let score = |set| -> Result<Scores, ProbeError> {
            let features = extract(encoder, set, device)?;
            let predicted = probe.predict(&features);
            Ok(Scores::of(&features.labels, &predicted, lab.attack.target))
        };
        let (clean, patched) = (score(&self.clean)?, score(&self.patched)?);
        Ok(Map::from_iter([
            ("dev_acc".into(), clean.acc.into()),
            ("dev_asr_clean".into(), clean.asr.into()),
            ("dev_asr_patched".into(), patched.asr.into()),
        ]))
    }
}

/// The labelled subset of the training images: always clean originals.
pub(super) fn labelled(lab: &Lab) -> SampleSet {
    let Lab { splits, labelled: (ids, _), .. } = lab;
    Arc::new(Subset::of_ids(splits.plain.clone(), &splits.train.labels, ids))
}
