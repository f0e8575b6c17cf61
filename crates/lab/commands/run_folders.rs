//! Run folders as `list` and `show` see them: read, never opened or changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ssl_backdoor_trigger::TargetClass;

use super::probe::{EXTERNAL, EXTERNAL_SCORES};
use crate::config::{ConfigError, Experiment, nearest};
use crate::record::{Artefact, BySet, CLEAN, Images, RunScores};
use crate::run::{RunState, why_failed};

/// Default folder of runs.
pub(super) const RUNS: &str = "runs";

/// Folder of a sweep's clean twins, which are not runs.
const TWINS: &str = "twins";

/// Shown as the method of an encoder that `probe` scored.
const PROBED: &str = "probe";

/// A row of the list: a run, or an encoder that `probe` scored, and its scores.
#[derive(Debug, Serialize)]
pub(super) struct RunRow {
    /// Its folder.
    pub folder: PathBuf,
    pub state: RunState,
    /// Why it failed.
    pub error: Option<String>,
    pub method: Option<String>,
    pub data: Option<String>,
    pub trigger: Option<String>,
    pub seed: Option<u64>,
    /// Name of the target class; until the run is done, its index where only the files know the names; none = untargeted.
    pub target: Option<String>,
    /// Accuracy of the clean twin, or of the encoder that was probed, on clean images, in percent.
    pub clean_acc: Option<f64>,
    /// Net ASR in points.
    pub net_asr: Option<f64>,
}

/// The part of foreign.json that a row shows.
#[derive(Deserialize)]
struct Probed {
    target: Option<u32>,
    target_name: Option<String>,
    trigger: String,
    seed: u64,
    probes: Vec<ProbedModels>,
}

#[derive(Deserialize)]
struct ProbedModels {
    models: BTreeMap<String, BySet>,
}

impl RunRow {
    /// The run in `folder`, if that is a run folder.
    pub fn read(folder: &Path) -> Option<Self> {
        let scores = RunScores::read(&folder.join(Artefact::Scores.to_string())).ok();
        let state = match folder.parent().is_some_and(|parent| parent.ends_with(TWINS)) {
            true => RunState::of_twin(folder),
            false => RunState::of(folder, scores.is_some()),
        };
        let error = (state == RunState::Failed).then(|| why_failed(folder)).flatten();
        let folder = folder.to_path_buf();
        if let Some(scores) = scores {
            return Some(Self {
                folder,
                state,
                error,
                clean_acc: scores.get(CLEAN, Images::Clean).map(|s| s.acc),
                net_asr: scores.net_asr,
                target: scores.target_name.or(scores.target.map(|class| class.to_string())),
                method: Some(scores.method),
                data: Some(scores.data),
                trigger: Some(scores.trigger),
                seed: Some(scores.seed),
            });
        }
        let config = folder.join(Artefact::Config.to_string());
        let config = config.is_file().then(|| Experiment::read(&config, &[]));
        let known = match config {
            None if !folder.join(Artefact::Manifest.to_string()).is_file() => return None,
            // A config that this version cannot read still belongs to a run if one was begun.
            Some(Err(_)) if state == RunState::NotBegun => return None,
            config => config.and_then(Result::ok),
        };
        let known = known.as_ref();
        Some(Self {
            folder,
            state,
            error,
            method: known.map(|e| e.pretrain.method.settings().name().into()),
            data: known.map(|e| e.data.kind().into()),
            trigger: known.map(|e| e.poison.to_string()),
            seed: known.map(|e| e.seed),
            target: known.and_then(target),
            clean_acc: None,
            net_asr: None,
        })
    }

    /// The encoder that `probe` scored in `folder`.
    fn probed(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(EXTERNAL_SCORES)).ok()?;
        let Probed { target, target_name, trigger, seed, probes } =
            serde_json::from_str(&text).ok()?;
        let headline = probes.first().and_then(|probe| probe.models.get(EXTERNAL));
        Some(Self {
            folder: folder.to_path_buf(),
            state: RunState::of(folder, true),
            error: None,
            method: Some(PROBED.into()),
            data: None,
            trigger: Some(trigger),
            seed: Some(seed),
            target: target_name.or(target.map(|class| class.to_string())),
            clean_acc: headline.and_then(|sets| sets.get(&Images::Clean)).map(|scores| scores.acc),
            net_asr: None,
        })
    }

    /// All runs and probed encoders in `folder` and below, in the order of their paths; clean twins of sweeps are left out.
    ///
    /// # Errors
    /// A [`ConfigError`] if the folder does not exist; it suggests a similar name.
    pub fn all(folder: &Path) -> Result<Vec<Self>, ConfigError> {
        if !folder.is_dir() {
            return Err(absent(folder, "folder"));
        }
        let mut rows = Vec::new();
        find(folder, &mut rows);
        Ok(rows)
    }
}

/// The target class of a config by name; by index if the config gives that and the names are known only to the files.
fn target(experiment: &Experiment) -> Option<String> {
    match experiment.poison.target.as_ref()? {
        TargetClass::Name(name) => Some(name.clone()),
        TargetClass::Index(index) => {
            let names = experiment.data.class_names().unwrap_or_default();
            Some(names.get(*index as usize).cloned().unwrap_or_else(|| index.to_string()))
        }
    }
}

fn find(folder: &Path, rows: &mut Vec<RunRow>) {
    if let Some(row) = RunRow::read(folder).or_else(|| RunRow::probed(folder)) {
        rows.push(row);
        return;
    }
    for inner in folders(folder).into_iter().filter(|inner| !inner.ends_with(TWINS)) {
        find(&inner, rows);
    }
}

/// The folders in `folder`, sorted.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

/// The error for a `what` that does not exist: suggests a similar name, and lists the folders that exist.
pub(super) fn absent(path: &Path, what: &str) -> ConfigError {
    let shown = path.display();
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let place = parent.map_or("this folder".into(), |parent| parent.display().to_string());
    let names: Vec<String> = folders(parent.unwrap_or(Path::new(".")))
        .iter()
        .filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned()))
        .filter(|name| !name.starts_with('.'))
        .collect();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let hint = nearest(name, &names).map_or(String::new(), |near| {
        format!(", did you mean {}?", path.with_file_name(near).display())
    });
    let there = match &names[..] {
        [] => format!("{place} holds no folders"),
        names => format!("{place} holds {}", listed(names)),
    };
    let end = if hint.is_empty() { "; " } else { " " };
    ConfigError(format!("{shown}: there is no such {what}{hint}{end}{there}"))
}

/// The first few of `names`.
fn listed(names: &[String]) -> String {
    const MOST: usize = 12;
    let first = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
