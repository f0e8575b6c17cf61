//! State shared by all stages of a run, and how a finished stage is skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use ssl_backdoor_data::{Patched, Poisoned, SampleSet, Split, Splits, Subset};
use ssl_backdoor_defend::Role;
use ssl_backdoor_trigger::Attack;

use super::folder::RunFolder;
use super::inputs::{Inputs, difference};
use super::interrupt::{go_on, interrupted};
use super::labels::{Labelled, labelled};
use super::progress;
use super::selection::Choice;
use super::until::Stage;
use crate::config::Experiment;
use crate::device;
use crate::record::{
    Artefact, BURN, Done, MadeBy, Manifest, SCHEMA, StageId, hash_file, relative, withdraw_scores,
};

/// State shared by all stages.
pub(super) struct Lab {
    pub(super) experiment: Experiment,
    pub(super) folder: RunFolder,
    pub(super) manifest: Manifest,
    pub(super) device: Device,
    pub(super) splits: Splits,
    pub(super) attack: Attack,
    /// The labelled training images for each label share, the headline's first.
    pub(super) labelled: Vec<Labelled>,
    /// The run folder of the clean twin, if it is not this one.
    pub(super) twin: Option<PathBuf>,
    /// The last requested stage.
    pub(super) until: Stage,
}

/// Runs the work of `stage`, unless this process was asked to stop; returns its duration in seconds.
pub(super) fn timed(stage: &StageId, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    go_on()?;
    let since = Instant::now();
    // A stage that was asked to stop has not failed.
    let named = |e: anyhow::Error| match interrupted() {
        true => e.context(format!("stage {stage}")),
        false => e.context(format!("stage {stage} failed")),
    };
    work().map_err(named)?;
    Ok(since.elapsed().as_secs_f64())
}

impl Lab {
    /// What produces the stages of this run.
    pub(super) fn maker(&self) -> MadeBy {
        MadeBy::this(&self.experiment.device, self.experiment.pretrain.train.precision)
    }

    pub(super) fn open(
        experiment: Experiment,
        out: &Path,
        twin: Option<&Path>,
        until: Stage,
    ) -> Result<Self> {
        let source = experiment.source.clone();
        let device = device::open(&experiment.device).map_err(|e| source.wrong(e))?;
        let splits = experiment.data.load(&progress::watch())?;
        progress::say_left_out(&splits.left_out, &splits.skipped);
        let seed = experiment.seed;
        // The images that a selection rule chose are stored in the folder.
        let chooses = experiment.poison.select.is_some();
        let early = chooses.then(|| RunFolder::open(out)).transpose()?;
        let choice = Choice { splits: &splits, seed, device: &device, source: &source };
        let poison = choice.of(&experiment.poison, early.as_ref())?;
        let attack = splits.attack(&poison, seed).map_err(|e| source.wrong(e))?;
        experiment.check_with(Some(splits.train.labels.len())).map_err(|e| source.wrong(e))?;
        let labelled = labelled(&experiment.probe, experiment.data.seed(), &splits)
            .map_err(|e| source.wrong_about("probe.labels", &e))?;
        let folder = early.map_or_else(|| RunFolder::open(out), Ok)?;
        // Scores of another config must not pass for those of this one if the run stops before it has its own.
        let before = Experiment::read(&folder.join(Artefact::Config), &[]);
        if !before.is_ok_and(|before| before.scores_as(&experiment)) {
            withdraw_scores(out)?;
        }
        folder.write(Artefact::Config, experiment.to_toml()?.as_bytes())?;
        // An absent or broken manifest only means that nothing is skipped.
        let stages =
            Manifest::read(&folder.join(Artefact::Manifest)).map(|m| m.stages).unwrap_or_default();
        let manifest = Manifest {
            schema: SCHEMA,
            name: experiment.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            burn: BURN.into(),
            device: experiment.device.clone(),
            seed: experiment.seed,
            workers: experiment.workers,
            twin: twin.map(|twin| relative(twin, out)),
            stages,
        };
        let twin = twin.map(Path::to_path_buf);
        Ok(Self { experiment, folder, manifest, device, splits, attack, labelled, twin, until })
    }

    /// The path of `artefact`: the twin's encoder and log may belong to another run.
    pub(super) fn path(&self, artefact: &Artefact) -> PathBuf {
        match &self.twin {
            Some(twin) if Artefact::of_training(&Role::CLEAN.into()).contains(artefact) => {
                twin.join(artefact.to_string())
            }
            _ => self.folder.join(artefact),
        }
    }

    /// Inputs of every stage.
    pub(super) fn inputs(&self) -> Inputs {
        Inputs::on(&self.experiment.device)
    }

    /// The images of `split`, prepared, with the trigger on every one.
    pub(super) fn patched(&self, split: &Split) -> SampleSet {
        Arc::new(Patched::new(self.splits.prepared(split), split, &self.attack))
    }

    /// The training images of the victim, poisoned ones included.
    pub(super) fn poisoned_train(&self) -> SampleSet {
        Arc::new(Poisoned::new(self.splits.clone(), self.attack.clone()))
    }

    /// The labelled images `ids`, always the clean originals.
    pub(super) fn images(&self, ids: &[u64]) -> SampleSet {
        let Splits { labelled_prepared, labelled, .. } = &self.splits;
        Arc::new(Subset::of_ids(labelled_prepared.clone(), &labelled.labels, ids))
    }

    /// Runs `work` unless `stage` is finished with the same inputs and unchanged artefacts.
    pub(super) fn stage(
        &mut self,
        stage: &StageId,
        inputs: &Inputs,
        artefacts: &[Artefact],
        work: impl FnOnce(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        if self.done_already(stage, inputs, artefacts) {
            return Ok(());
        }
        let seconds = timed(stage, || work(self, &inputs.hash()))?;
        self.done(stage, inputs, artefacts, seconds)
    }

    /// Whether `stage` is finished with the same inputs and unchanged artefacts; says so. If the stage must be repeated, says
    /// why and removes the scores that depend on it.
    pub(super) fn done_already(
        &self,
        stage: &StageId,
        inputs: &Inputs,
        artefacts: &[Artefact],
    ) -> bool {
        let Some(done) = self.manifest.stages.get(stage) else { return false };
        let why = if done.inputs != inputs.hash() {
            format!("inputs changed: {}", difference(&done.from, inputs.parts()))
        } else if self.hashes(artefacts).is_ok_and(|now| now == done.artefacts) {
            eprintln!("{stage}: done already");
            return true;
        } else {
            "its files are missing or changed".into()
        };
        eprintln!("{stage}: repeated, because {why}");
        self.withdraw_scores(stage);
        false
    }

    /// Removes the scores and reports of an earlier config before `stage`, on which they depend, is repeated: a run that
    /// stops in between must not show them as its own. The encoders stay until there are new ones.
    fn withdraw_scores(&self, stage: &StageId) {
        if matches!(stage, StageId::Scan | StageId::FeatureMaps | StageId::Report) {
            return;
        }
        if let Err(error) = withdraw_scores(self.folder.path()) {
            eprintln!("warning: {error:#}");
        }
    }

    /// Records that `stage` is finished, and prints its time.
    pub(super) fn done(
        &mut self,
        stage: &StageId,
        inputs: &Inputs,
        artefacts: &[Artefact],
        seconds: f64,
    ) -> Result<()> {
        let artefacts = self.hashes(artefacts)?;
        let (inputs, from) = (inputs.hash(), inputs.parts().clone());
        let made_by = self.maker();
        let done = Done { inputs, from, artefacts, seconds, made_by };
        self.manifest.stages.insert(stage.clone(), done);
        let text = serde_json::to_vec_pretty(&self.manifest)?;
        self.folder.write(Artefact::Manifest, &text)?;
        eprintln!("{stage}: {seconds:.1} s");
        Ok(())
    }

    /// The hash of each of `artefacts`, by its path.
    pub(super) fn hashes(&self, artefacts: &[Artefact]) -> Result<BTreeMap<String, String>> {
        artefacts.iter().map(|one| Ok((one.to_string(), self.artefact(one)?))).collect()
    }

    /// Hash of an artefact of an earlier stage.
    pub(super) fn artefact(&self, artefact: &Artefact) -> Result<String> {
        hash_file(&self.path(artefact))
    }
}
