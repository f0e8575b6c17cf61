//! The stages of a run, in order. Each writes its artefacts whole; one whose inputs and artefacts
//! are unchanged is skipped, so running again resumes.

mod check;
mod defend;
mod features;
mod floor;
mod inputs;
mod labels;
mod maps;
mod neighbours;
mod poison;
mod pretrain;
mod probe;
mod readers;
mod report;
mod trigger_size;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::ValueEnum;
use ssl_backdoor_data::{Patched, Poisoned, SampleSet, Split, Splits, Subset};
use ssl_backdoor_trigger::Attack;

use crate::config::Experiment;
use crate::made_by::MadeBy;
use crate::manifest::{self, BURN, Done, Manifest};
use crate::scores::CLEAN;
use crate::versioned::SCHEMA;
use crate::{RunFolder, device, progress};

const MANIFEST: &str = "manifest.json";

/// A stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    /// Choose the poisoned images, write the ledger.
    Poison,
    /// Train the clean twin, or check the one of `--twin`.
    Twin,
    /// Train the backdoored model.
    Pretrain,
    /// Make the defended models, if the config has a defence.
    Defend,
    /// Probe all models and the untrained encoder; write the scores.
    Probe,
    /// Draw the feature maps of both models.
    Maps,
    /// Write the report.
    Report,
}

pub(crate) use features::read_out;
use inputs::Inputs;
pub(crate) use labels::{Labelled, labelled};
pub(crate) use maps::{Map, Point};
pub(crate) use pretrain::TWIN;
pub(crate) use readers::{NO_STEP, Unified, takes_no_step};

/// What all stages share.
struct Lab {
    experiment: Experiment,
    folder: RunFolder,
    manifest: Manifest,
    device: Device,
    splits: Splits,
    attack: Attack,
    /// Which training images carry labels, for each share of the config: the headline's first.
    labelled: Vec<Labelled>,
    /// The run folder that holds the clean twin, where it is not this one.
    twin: Option<PathBuf>,
    /// The last stage that is wanted.
    until: Stage,
}

/// Runs `experiment` in `out` up to and including `until`. With `twin`, the clean twin is not
/// trained but taken from that run folder, which must hold one of the same settings.
///
/// # Errors
/// A [`ConfigError`](crate::ConfigError) if the experiment cannot run as configured, anything else if it failed on the
/// way; artefacts of finished stages stay.
pub fn run(experiment: Experiment, out: &Path, twin: Option<&Path>, until: Stage) -> Result<()> {
    let source = experiment.source.clone();
    stages(experiment, out, twin, until).map_err(|error| source.locate(error))
}

fn stages(experiment: Experiment, out: &Path, twin: Option<&Path>, until: Stage) -> Result<()> {
    let mut lab = Lab::open(experiment, out, twin, until)?;
    if until >= Stage::Twin {
        check::before_training(&mut lab)?;
    }
    type Run = fn(&mut Lab) -> Result<()>;
    let stages: [(Stage, Run); 7] = [
        (Stage::Poison, poison::run),
        (Stage::Twin, trigger_size::run),
        // And the backdoored model beside it, if that is wanted too.
        (Stage::Twin, pretrain::run),
        (Stage::Defend, defend::run),
        (Stage::Probe, probe::run),
        (Stage::Maps, maps::run),
        (Stage::Report, report::run),
    ];
    stages.into_iter().filter(|(stage, _)| *stage <= until).try_for_each(|(_, run)| run(&mut lab))
}

/// Does the work of `stage`; how many seconds it took.
fn timed(stage: &str, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let since = Instant::now();
    work().with_context(|| format!("stage {stage} failed"))?;
    Ok(since.elapsed().as_secs_f64())
}

impl Lab {
    fn open(experiment: Experiment, out: &Path, twin: Option<&Path>, until: Stage) -> Result<Self> {
        let source = experiment.source.clone();
        let device = device::open(&experiment.device).map_err(|e| source.wrong(e))?;
        let splits = experiment.data.load(&progress::watch())?;
        progress::say_left_out(&splits.left_out, &splits.skipped);
        let attack =
            splits.attack(&experiment.poison, experiment.seed).map_err(|e| source.wrong(e))?;
        experiment.check_with(Some(splits.train.labels.len())).map_err(|e| source.wrong(e))?;
        let labelled = labelled(&experiment.probe, experiment.data.seed(), &splits)
            .map_err(|e| source.wrong_about("probe.labels", &e))?;
        let folder = RunFolder::open(out)?;
        folder.write("config.toml", experiment.to_toml()?.as_bytes())?;
        // An absent or broken manifest only means that nothing is skipped.
        let stages = Manifest::read(&folder.join(MANIFEST)).map(|m| m.stages).unwrap_or_default();
        let manifest = Manifest {
            schema: SCHEMA,
            name: experiment.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            burn: BURN.into(),
            device: experiment.device.clone(),
            seed: experiment.seed,
            workers: experiment.workers,
            stages,
        };
        let twin = twin.map(Path::to_path_buf);
        Ok(Self { experiment, folder, manifest, device, splits, attack, labelled, twin, until })
    }

    /// Where the file `name` of the run lies: the twin's encoder and log may be another run's.
    fn path(&self, name: &str) -> PathBuf {
        let twins = [pretrain::encoder_file(CLEAN), pretrain::metrics_file(CLEAN)];
        match &self.twin {
            Some(twin) if twins.iter().any(|file| file == name) => twin.join(name),
            _ => self.folder.join(name),
        }
    }

    /// The images of `split`, prepared, with the trigger on every one.
    fn patched(&self, split: &Split) -> SampleSet {
        Arc::new(Patched::new(self.splits.prepared(split), split, &self.attack))
    }

    /// The training images as the victim finds them.
    fn poisoned_train(&self) -> SampleSet {
        Arc::new(Poisoned::new(self.splits.clone(), self.attack.clone()))
    }

    /// Runs `work` unless `stage` was done with the same inputs and its artefacts are still those.
    fn stage(
        &mut self,
        stage: &str,
        inputs: &Inputs,
        artefacts: &[&str],
        work: impl FnOnce(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        if self.done_already(stage, inputs, artefacts) {
            return Ok(());
        }
        let seconds = timed(stage, || work(self, &inputs.hash()))?;
        self.done(stage, inputs, artefacts, seconds)
    }

    /// Was `stage` done with the same inputs, and are its artefacts still those? Says so, and else why it is done again.
    fn done_already(&self, stage: &str, inputs: &Inputs, artefacts: &[impl AsRef<str>]) -> bool {
        let Some(done) = self.manifest.stages.get(stage) else { return false };
        if done.inputs != inputs.hash() {
            let what = inputs::difference(&done.from, inputs.parts());
            eprintln!("{stage}: again, because of changed inputs: {what}");
            return false;
        }
        let same = self.hashes(artefacts).is_ok_and(|now| now == done.artefacts);
        let how =
            if same { "done already" } else { "again, because its files are missing or changed" };
        eprintln!("{stage}: {how}");
        same
    }

    /// Puts on record that `stage` was done, and says so.
    fn done(
        &mut self,
        stage: &str,
        inputs: &Inputs,
        artefacts: &[impl AsRef<str>],
        seconds: f64,
    ) -> Result<()> {
        let artefacts = self.hashes(artefacts)?;
        let (inputs, from) = (inputs.hash(), inputs.parts().clone());
        let made_by = MadeBy::this(&self.experiment.device);
        let done = Done { inputs, from, artefacts, seconds, made_by };
        self.manifest.stages.insert(stage.into(), done);
        let text = serde_json::to_vec_pretty(&self.manifest)?;
        self.folder.write(MANIFEST, &text)?;
        eprintln!("{stage}: {seconds:.1} s");
        Ok(())
    }

    fn hashes(&self, artefacts: &[impl AsRef<str>]) -> Result<BTreeMap<String, String>> {
        let hash = |name: &str| Ok((name.to_owned(), manifest::hash_file(&self.path(name))?));
        artefacts.iter().map(|name| hash(name.as_ref())).collect()
    }

    /// Hash of an artefact of an earlier stage.
    fn artefact(&self, name: &str) -> Result<String> {
        manifest::hash_file(&self.path(name))
    }
}
