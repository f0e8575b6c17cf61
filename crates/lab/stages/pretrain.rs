//! Stage 2: the clean twin and the backdoored model. Same initial weights, order and augmentation
//! draws; only the poisoned pixels differ.

use std::sync::Arc;

use anyhow::{Result, bail};
use burn::tensor::Device;
use serde_json::{Map, Value};
use ssl_backdoor_data::{SampleSet, Subset};
use ssl_backdoor_kernels::side_by_side;
use ssl_backdoor_model::{Encoder, EncoderHeader, save_encoder};
use ssl_backdoor_probe::{LinearProbe, ProbeError, Scores, extract};
use ssl_backdoor_ssl::{Training, encoder_header, pretrain};

use super::inputs::{Inputs, difference};
use super::{Lab, MANIFEST, Stage, poison, timed};
use crate::Experiment;
use crate::device;
use crate::manifest::Manifest;
use crate::scores::{BACKDOORED, CLEAN};
use crate::watched::Watched;

/// The encoder file of `model`, relative to the run folder.
pub(super) fn encoder_file(model: &str) -> String {
    format!("{model}/encoder.safetensors")
}

/// The training log of `model`, relative to the run folder.
pub(crate) fn metrics_file(model: &str) -> String {
    format!("{model}/metrics.jsonl")
}

/// The stage that trains the clean twin, or takes it from another run.
pub(crate) const TWIN: &str = "pretrain clean";

/// What decides a training: its images, not those that are scored, and not the probe, unless the probe draws a curve on
/// the way.
fn inputs(lab: &Lab, model: &str) -> Result<Inputs> {
    let Experiment { data, poison, pretrain, probe, seed, .. } = &lab.experiment;
    let prints = &lab.splits.fingerprint;
    let inputs = Inputs::of(lab)
        .with("model", &model)?
        .with("training images", &prints.train)?
        .with("crops come from", &lab.splits.cached.as_ref().map(|(_, shorter)| shorter))?
        .with("data.size", &data.size())?
        .with("pretrain", pretrain)?
        .with("seed", seed)?;
    if probe.curve_every == 0 {
        return Ok(inputs);
    }
    inputs.with("probe", probe)?.with("poison", poison)?.with("dev images", &prints.dev)
}

/// A training that is due.
struct Job {
    stage: &'static str,
    model: &'static str,
    set: SampleSet,
    inputs: Inputs,
}

impl Job {
    fn record(&self, lab: &mut Lab, seconds: f64) -> Result<()> {
        lab.done(self.stage, &self.inputs, &artefacts(self.model), seconds)
    }
}

/// Trains the clean twin, or checks that the one of another run folder is the one wanted, and, if the run goes on,
/// the backdoored model: on a CPU both at once.
pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let mut jobs = Vec::from_iter(twin(lab)?);
    if lab.until >= Stage::Pretrain {
        jobs.push(backdoored(lab)?);
    }
    jobs.retain(|job| !lab.done_already(job.stage, &job.inputs, &artefacts(job.model)));
    let work = |lab: &Lab, job: &Job| timed(job.stage, || train(lab, job));
    if let [first, second] = &jobs[..]
        && device::backend(&lab.experiment.device) == "flex"
    {
        let shared: &Lab = lab;
        let (one, other) = side_by_side(|| work(shared, first), || work(shared, second));
        // If one failed, what the other finished is kept all the same.
        let kept = [(first, one), (second, other)].map(|(job, took)| job.record(lab, took?));
        return kept.into_iter().collect();
    }
    jobs.iter().try_for_each(|job| job.record(lab, work(lab, job)?))
}

/// The encoder file and the log of `model`.
fn artefacts(model: &str) -> [String; 2] {
    [encoder_file(model), metrics_file(model)]
}

/// The clean twin's training, unless another run folder holds it.
fn twin(lab: &mut Lab) -> Result<Option<Job>> {
    let inputs = inputs(lab, CLEAN)?;
    let Some(folder) = &lab.twin else {
        let set = lab.splits.pretrain_set().clone();
        return Ok(Some(Job { stage: TWIN, model: CLEAN, set, inputs }));
    };
    let shown = folder.display();
    let manifest = Manifest::read(&folder.join(MANIFEST))?;
    let Some(done) = manifest.stages.get(TWIN) else {
        bail!("{shown} holds no clean twin: its training has not ended");
    };
    if done.inputs != inputs.hash() {
        bail!(
            "the clean twin in {shown} was trained with other settings ({}): training images, pretrain, seed, device \
             and numerics must be this run's, and probe.curve_every 0",
            difference(&done.from, inputs.parts())
        );
    }
    if lab.hashes(&artefacts(CLEAN))? != done.artefacts {
        bail!("the clean twin in {shown} was changed after its training");
    }
    eprintln!("{TWIN}: taken from {shown}");
    lab.manifest.stages.insert(TWIN.into(), done.clone());
    Ok(None)
}

/// The backdoored model's training.
fn backdoored(lab: &Lab) -> Result<Job> {
    let inputs = inputs(lab, BACKDOORED)?.with("poisoned images", &poison::outcome(lab)?)?;
    let set = lab.poisoned_train();
    Ok(Job { stage: "pretrain backdoored", model: BACKDOORED, set, inputs })
}

fn train(lab: &Lab, job: &Job) -> Result<()> {
    let (experiment, model) = (&lab.experiment, job.model);
    let folder = lab.folder.make(model)?;
    let size = experiment.data.size();
    let training = Training::new(job.set.clone(), experiment.seed, &lab.device);
    let training = Training { workers: experiment.workers, ..training };
    let every = experiment.probe.curve_every;
    let curve = Curve::new(lab);
    let watched = Watched::new(&folder, &job.inputs.hash(), model);
    let mut watched = watched.with_figures(|encoder, epoch| {
        if every == 0 || !(epoch + 1).is_multiple_of(every) {
            return Ok(Map::new());
        }
        Ok(curve.point(lab, encoder, &lab.device)?)
    });
    let encoder = pretrain(&experiment.pretrain, None, size, &training, &mut watched)?;
    save(lab, model, &encoder)
}

/// Writes the encoder file of `model`.
pub(super) fn save(lab: &Lab, model: &str, encoder: &Encoder) -> Result<()> {
    save_encoder(encoder, &header(lab), &lab.folder.join(&encoder_file(model)))?;
    Ok(())
}

/// What the run's encoder files say of themselves.
pub(super) fn header(lab: &Lab) -> EncoderHeader {
    encoder_header(lab.experiment.pretrain.encoder, lab.experiment.data.size())
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
            labelled: images(lab, &lab.labelled[0].ids),
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
            LinearProbe::fit(&experiment.probe, &labelled, classes, experiment.seed, device)?;
        let score = |set| -> Result<Scores, ProbeError> {
            let features = extract(encoder, set, device)?;
            let predicted = probe.predict(&features)?;
            Scores::of(&features.labels, &predicted, lab.attack.target)
        };
        let (clean, patched) = (score(&self.clean)?, score(&self.patched)?);
        Ok(Map::from_iter([
            ("dev_acc".into(), clean.acc.into()),
            ("dev_asr_clean".into(), clean.asr.into()),
            ("dev_asr_patched".into(), patched.asr.into()),
        ]))
    }
}

/// The labelled images `ids`: always clean originals.
pub(super) fn images(lab: &Lab, ids: &[u64]) -> SampleSet {
    Arc::new(Subset::of_ids(lab.splits.plain.clone(), &lab.splits.labelled.labels, ids))
}
