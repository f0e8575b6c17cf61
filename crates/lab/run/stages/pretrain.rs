//! Stage 2: the clean twin and the backdoored model. Same initial weights, order and augmentation
//! draws; only the poisoned pixels differ.

use anyhow::{Result, bail};
use burn::tensor::Device;
use serde_json::{Map, Value};
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_defend::{ModelId, Role};
use ssl_backdoor_kernels::side_by_side;
use ssl_backdoor_model::Encoder;
use ssl_backdoor_probe::{LinearProbe, ProbeError, Scores, extract};
use ssl_backdoor_ssl::{Training, pretrain};

use super::{encoders, poison};
use crate::Experiment;
use crate::device;
use crate::record::{ASSIGNED, Artefact, Manifest, StageId};
use crate::run::inputs::{Inputs, difference};
use crate::run::lab::{Lab, timed};
use crate::run::until::Stage;
use crate::run::watched::Watched;

/// Inputs of a training: its images, but not the scored images, and not the probe unless it draws a curve during
/// the training.
fn inputs(lab: &Lab, role: Role<'_>) -> Result<Inputs> {
    let Experiment { data, poison, pretrain, probe, seed, .. } = &lab.experiment;
    let prints = &lab.splits.fingerprint;
    let inputs = lab
        .inputs()
        .with("model", &role.as_str())?
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

/// A training to be done.
struct DueTraining {
    stage: StageId,
    model: ModelId,
    set: SampleSet,
    inputs: Inputs,
}

impl DueTraining {
    fn new(role: Role<'_>, set: SampleSet, inputs: Inputs) -> Self {
        Self { stage: StageId::pretrain(role), model: role.into(), set, inputs }
    }

    fn artefacts(&self) -> [Artefact; 2] {
        Artefact::of_training(&self.model)
    }

    fn record(&self, lab: &mut Lab, seconds: f64) -> Result<()> {
        lab.done(&self.stage, &self.inputs, &self.artefacts(), seconds)
    }
}

/// Trains the clean twin, or checks that of another run folder, and, if requested, the backdoored model. On a CPU both
/// train at the same time.
pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let mut jobs = Vec::from_iter(twin(lab)?);
    if lab.until >= Stage::Pretrain {
        jobs.push(backdoored(lab)?);
    }
    jobs.retain(|job| !lab.done_already(&job.stage, &job.inputs, &job.artefacts()));
    let work = |lab: &Lab, job: &DueTraining| timed(&job.stage, || train(lab, job));
    if let [first, second] = &jobs[..]
        && device::backend(&lab.experiment.device) == "flex"
    {
        let shared: &Lab = lab;
        let (one, other) = side_by_side(|| work(shared, first), || work(shared, second));
        // If one fails, the finished result of the other is kept.
        let kept = [(first, one), (second, other)].map(|(job, took)| job.record(lab, took?));
        return kept.into_iter().collect();
    }
    jobs.iter().try_for_each(|job| job.record(lab, work(lab, job)?))
}

/// The clean twin's training, unless another run folder contains it.
fn twin(lab: &mut Lab) -> Result<Option<DueTraining>> {
    let inputs = inputs(lab, Role::CLEAN)?;
    let Some(folder) = &lab.twin else {
        let set = lab.splits.pretrain_set().clone();
        return Ok(Some(DueTraining::new(Role::CLEAN, set, inputs)));
    };
    let shown = folder.display();
    let manifest = Manifest::read(&folder.join(Artefact::Manifest.to_string()))?;
    let stage = StageId::PretrainClean;
    let Some(done) = manifest.stages.get(&stage) else {
        bail!("{shown} contains no clean twin, or its training is not finished");
    };
    if done.inputs != inputs.hash() {
        bail!(
            "the clean twin in {shown} was trained with other settings ({}): training images, pretrain, seed, device \
             and numerics version must be the same as in this run, and with probe.curve_every > 0 also poison and probe",
            difference(&done.from, inputs.parts())
        );
    }
    if lab.hashes(&Artefact::of_training(&Role::CLEAN.into()))? != done.artefacts {
        bail!("the clean twin in {shown} was changed after its training");
    }
    eprintln!("{stage}: taken from {shown}");
    lab.manifest.stages.insert(stage, done.clone());
    Ok(None)
}

/// The backdoored model's training.
fn backdoored(lab: &Lab) -> Result<DueTraining> {
    let inputs = inputs(lab, Role::BACKDOORED)?.with("poisoned images", &poison::outcome(lab)?)?;
    let set = lab.poisoned_train();
    Ok(DueTraining::new(Role::BACKDOORED, set, inputs))
}

fn train(lab: &Lab, job: &DueTraining) -> Result<()> {
    let (experiment, model) = (&lab.experiment, &job.model);
    let folder = lab.folder.make(model)?;
    let size = experiment.data.size();
    let training = Training::new(job.set.clone(), experiment.seed, &lab.device);
    let training = Training { workers: experiment.workers, ..training };
    let every = experiment.probe.curve_every;
    let curve = Curve::new(lab);
    let watched = Watched::new(&folder, &job.inputs.hash(), model.as_str())
        .with_events(&folder, experiment.tensorboard);
    let mut watched = watched.with_figures(|encoder, epoch| {
        if every == 0 || !(epoch + 1).is_multiple_of(every) {
            return Ok(Map::new());
        }
        Ok(curve.point(lab, encoder, &lab.device)?)
    });
    let encoder = pretrain(&experiment.pretrain, None, size, &training, &mut watched)?;
    encoders::save(lab, model, &encoder)
}

/// The images of the attack's curve during the training: always the dev half, so that test images are used only once.
struct Curve {
    labelled: SampleSet,
    clean: SampleSet,
    patched: SampleSet,
}

impl Curve {
    fn new(lab: &Lab) -> Self {
        Self {
            labelled: lab.images(&lab.labelled[0].ids),
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
        let predicted = |set| -> Result<(Vec<u32>, Vec<u32>), ProbeError> {
            let features = extract(encoder, set, device)?;
            let predicted = probe.predict(&features)?;
            Ok((features.labels, predicted))
        };
        let (of_clean, of_patched) = (predicted(&self.clean)?, predicted(&self.patched)?);
        let score = |(truth, predicted): &(Vec<u32>, Vec<u32>), target| {
            Scores::of(truth, predicted, target)
        };
        let target = lab.attack.target;
        let (clean, patched) = (score(&of_clean, target)?, score(&of_patched, target)?);
        // The ASR if each class were the target.
        let to = |class| Ok(score(&of_patched, Some(class))?.asr.unwrap_or(0.0));
        let to = (0..classes as u32).map(to).collect::<Result<Vec<f64>, ProbeError>>()?;
        Ok(Map::from_iter([
            (ASSIGNED.into(), to.into()),
            ("dev_acc".into(), clean.acc.into()),
            ("dev_asr_clean".into(), clean.asr.into()),
            ("dev_asr_patched".into(), patched.asr.into()),
        ]))
    }
}
