//! The stages of a run, in order. Each writes its artefacts whole; one whose inputs and artefacts
//! are unchanged is skipped, so running again resumes.

mod defend;
mod features;
mod floor;
mod maps;
mod poison;
mod pretrain;
mod probe;
mod readers;
mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use clap::ValueEnum;
use serde::Serialize;
use ssl_backdoor_data::{
    DataError, Patched, Poisoned, SampleSet, Split, Splits, Subset, UNLABELLED, labelled_ids,
    listed_ids,
};
use ssl_backdoor_probe::{Labels, ProbeError};
use ssl_backdoor_trigger::Attack;

use crate::config::Experiment;
use crate::config_table::ConfigError;
use crate::manifest::{self, Done, Manifest};
use crate::scores::CLEAN;
use crate::{RunFolder, device, progress};

const MANIFEST: &str = "manifest.json";
/// The version of Burn that the workspace pins.
pub(crate) const BURN: &str = "0.22.1";

/// A stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    /// Choose the poisoned images, write the ledger.
    Poison,
    /// Train the clean twin, or check the one of `--twin`.
    Twin,
    /// Train the backdoored model.
    Pretrain,
    /// Distil the backdoored model on clean parts, if the config has a defence.
    Defend,
    /// Probe all models and the untrained encoder; write the scores.
    Probe,
    /// Draw the feature maps of both models.
    Maps,
    /// Write the report.
    Report,
}

pub(crate) use defend::defences;
pub(crate) use features::read_out;
pub(crate) use maps::{Map, Point};
pub(crate) use pretrain::TWIN;
pub(crate) use readers::Unified;

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

/// Training images that carry labels.
#[derive(Clone, Serialize)]
pub(crate) struct Labelled {
    /// What share they are: of each class, or for a list of all images.
    pub share: f64,
    pub ids: Vec<u64>,
}

/// Runs the experiment of `config` in `out` up to and including `until`. With `twin`, the clean twin is not
/// trained but taken from that run folder, which must hold one of the same settings.
///
/// # Errors
/// A [`ConfigError`] if the experiment cannot run as configured, anything else if it failed on the
/// way; artefacts of finished stages stay.
pub fn run(
    config: &Path,
    experiment: Experiment,
    out: &Path,
    twin: Option<&Path>,
    until: Stage,
) -> Result<()> {
    let mut lab = Lab::open(config, experiment, out, twin, until)?;
    type Run = fn(&mut Lab) -> Result<()>;
    let stages: [(Stage, Run); 6] = [
        (Stage::Poison, poison::run),
        // And the backdoored model beside it, if that is wanted too.
        (Stage::Twin, pretrain::run),
        (Stage::Defend, defend::run),
        (Stage::Probe, probe::run),
        (Stage::Maps, maps::run),
        (Stage::Report, report::run),
    ];
    stages.into_iter().filter(|(stage, _)| *stage <= until).try_for_each(|(_, run)| run(&mut lab))
}

/// The labelled training images of each share of the config, or of its list.
pub(crate) fn labelled(which: &Labels, seed: u64, splits: &Splits) -> Result<Vec<Labelled>> {
    let (labels, classes) = (&splits.labelled.labels, splits.classes.len() as u32);
    if labels.iter().all(|(_, label)| *label == UNLABELLED) {
        bail!(
            "probe.labels: the training images carry no labels: set data.labelled to a folder of class folders or to a \
             list with labels"
        );
    }
    let shares = match which {
        Labels::List(list) => {
            let ids = listed_ids(splits, list)?;
            let share = ids.len() as f64 / labels.len().max(1) as f64;
            return Ok(vec![Labelled { share, ids }]);
        }
        Labels::Shares(shares) => shares,
    };
    let one = |&share: &f64| {
        let ids = labelled_ids(labels, classes, share, seed);
        if ids.is_empty() {
            let of = |class| labels.iter().filter(|(_, c)| *c == class).count();
            let largest = (0..classes).map(of).max().unwrap_or(0);
            return Err(ProbeError::NoLabels { fraction: share, largest }.into());
        }
        Ok(Labelled { share, ids })
    };
    shares.iter().map(one).collect()
}

/// Does the work of `stage`; how many seconds it took.
fn timed(stage: &str, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let since = Instant::now();
    work().with_context(|| format!("stage {stage} failed"))?;
    Ok(since.elapsed().as_secs_f64())
}

impl Lab {
    fn open(
        config: &Path,
        experiment: Experiment,
        out: &Path,
        twin: Option<&Path>,
        until: Stage,
    ) -> Result<Self> {
        let device = device::open(&experiment.device).map_err(|e| ConfigError::at(config, e))?;
        let splits = experiment.data.load(&progress::watch())?;
        progress::say_left_out(&splits.left_out, &splits.skipped);
        let wrong = |e: DataError| ConfigError::at(config, e);
        let attack = splits.attack(&experiment.poison, experiment.seed).map_err(wrong)?;
        experiment.check_with(splits.train.labels.len()).map_err(|e| ConfigError::at(config, e))?;
        let labelled = labelled(&experiment.probe.labels, experiment.data.seed(), &splits)
            .map_err(|e| ConfigError::at(config, format!("{e:#}")))?;
        let folder = RunFolder::open(out)?;
        folder.write("config.toml", experiment.to_toml()?.as_bytes())?;
        // An absent or broken manifest only means that nothing is skipped.
        let stages = Manifest::read(&folder.join(MANIFEST)).map(|m| m.stages).unwrap_or_default();
        let manifest = Manifest {
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
        Arc::new(Patched::new(self.splits.prepared(split), self.attack.val.clone()))
    }

    /// The training images as the victim finds them.
    fn poisoned_train(&self) -> SampleSet {
        Arc::new(Poisoned::new(self.splits.clone(), self.attack.clone()))
    }

    /// Hash of what decides a stage's artefacts; the version and the kind of device belong to it.
    fn inputs(&self, of: &impl Serialize) -> Result<String> {
        let data = &self.splits.fingerprint;
        let version = env!("CARGO_PKG_VERSION");
        let text =
            serde_json::to_string(&(version, device::backend(&self.experiment.device), data, of))
                .context("cannot hash the inputs of a stage")?;
        Ok(manifest::hash(text.as_bytes()))
    }

    /// Runs `work` unless `stage` was done with the same inputs and its artefacts are still those.
    fn stage(
        &mut self,
        stage: &str,
        inputs: String,
        artefacts: &[&str],
        work: impl FnOnce(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        if self.done_already(stage, &inputs, artefacts) {
            return Ok(());
        }
        let seconds = timed(stage, || work(self, &inputs))?;
        self.done(stage, inputs, artefacts, seconds)
    }

    /// Was `stage` done with the same inputs, and are its artefacts still those? Says so.
    fn done_already(&self, stage: &str, inputs: &str, artefacts: &[impl AsRef<str>]) -> bool {
        let same = self.manifest.stages.get(stage).is_some_and(|done| {
            done.inputs == inputs && self.hashes(artefacts).is_ok_and(|now| now == done.artefacts)
        });
        if same {
            eprintln!("{stage}: done already");
        }
        same
    }

    /// Puts on record that `stage` was done, and says so.
    fn done(
        &mut self,
        stage: &str,
        inputs: String,
        artefacts: &[impl AsRef<str>],
        seconds: f64,
    ) -> Result<()> {
        let artefacts = self.hashes(artefacts)?;
        self.manifest.stages.insert(stage.into(), Done { inputs, artefacts, seconds });
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
