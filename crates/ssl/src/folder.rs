//! A training in a folder: its logs, and checkpoints that are written whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use ssl_backdoor_files::NewFolder;
use ssl_backdoor_model::Encoder;

use crate::checkpoint::METHOD;
use crate::error::{ObserverError, PretrainError};
use crate::json_lines::JsonLines;
use crate::observer::{Checkpoint, EpochReport, TrainObserver, TrainState};

const CHECKPOINTS: &str = "checkpoint";
const METRICS: &str = "metrics.jsonl";
const TIMING: &str = "timing.jsonl";
const IDENTITY: &str = "identity.txt";
const PREFIX: &str = "step-";

/// An observer that saves a training to a folder, from which it resumes to the same bytes.
///
/// - `metrics.jsonl` has a line for each epoch: [`EpochReport::figures`]
/// - `timing.jsonl` has a line for each epoch: seconds, images per second, the share of the time that the network
///   waited for views, and the number of workers
/// - `checkpoint/step-N` holds the state after N steps. It is written under another name and then renamed, so a
///   folder with this name is complete; the oldest are removed afterwards
pub struct TrainingFolder {
    folder: PathBuf,
    identity: String,
    /// `metrics.jsonl` and `timing.jsonl`, once the training has started.
    logs: Option<[JsonLines; 2]>,
}

impl TrainingFolder {
    /// A training in the existing `folder`. `identity`, a hash of everything that determines the training, tells it
    /// from another training that used the folder before: the checkpoints of that one are removed.
    pub fn new(folder: impl Into<PathBuf>, identity: impl Into<String>) -> Self {
        Self { folder: folder.into(), identity: identity.into(), logs: None }
    }

    /// The newest checkpoint of this training. All others among the checkpoints (torn or foreign) are removed.
    fn latest(&self) -> Result<Option<Checkpoint>, PretrainError> {
        let mut found: Option<Checkpoint> = None;
        for folder in entries(&self.folder.join(CHECKPOINTS))? {
            let ours =
                fs::read_to_string(folder.join(IDENTITY)).is_ok_and(|id| id == self.identity);
            match step_of(&folder).filter(|_| ours) {
                None => remove(&folder)?,
                Some(step) if found.as_ref().is_none_or(|best| step > best.step) => {
                    found = Some(Checkpoint { step, folder });
                }
                Some(_) => {}
            }
        }
        Ok(found)
    }

    /// Saves the state and removes all but the newest checkpoints.
    fn save(&self, state: &TrainState<'_>) -> Result<(), PretrainError> {
        let (folder, step) = (self.folder.join(CHECKPOINTS), state.step());
        fs::create_dir_all(&folder).map_err(|e| PretrainError::file(&folder, e))?;
        let (torn, done) =
            (folder.join(format!("tmp-{step}")), folder.join(format!("{PREFIX}{step}")));
        let new = NewFolder::start(&torn, &done).map_err(|e| PretrainError::file(&torn, e))?;
        state.save(new.scratch())?;
        let identity = new.scratch().join(IDENTITY);
        fs::write(&identity, &self.identity).map_err(|e| PretrainError::file(identity, e))?;
        new.finish().map_err(|e| PretrainError::file(&done, e))?;
        let all = complete(&folder)?;
        let old = all.len().saturating_sub(state.keep());
        all[..old].iter().try_for_each(|(_, path)| remove(path))
    }
}

impl TrainObserver for TrainingFolder {
    fn resume_from(&mut self) -> Result<Option<Checkpoint>, ObserverError> {
        Ok(self.latest()?)
    }

    fn on_start(&mut self, done: usize, _steps: usize) -> Result<(), ObserverError> {
        let open = |name| JsonLines::open(&self.folder.join(name), done);
        self.logs = Some([open(METRICS)?, open(TIMING)?]);
        Ok(())
    }

    fn on_epoch(&mut self, epoch: &mut EpochReport, _: &Encoder) -> Result<(), ObserverError> {
        if let Some([metrics, timing]) = &self.logs {
            timing.append(&epoch.times())?;
            metrics.append(&epoch.figures())?;
        }
        Ok(())
    }

    fn on_checkpoint(&mut self, state: &TrainState<'_>) -> Result<(), ObserverError> {
        Ok(self.save(state)?)
    }
}

/// Path of the method's record in the newest checkpoint of the training in `folder`, whatever its identity.
///
/// # Errors
/// There is no checkpoint, or the folder cannot be read.
pub(crate) fn newest_method(folder: &Path) -> Result<PathBuf, PretrainError> {
    let checkpoints = folder.join(CHECKPOINTS);
    let last = complete(&checkpoints)?.pop();
    let (_, last) =
        last.ok_or_else(|| PretrainError::file(&checkpoints, "it contains no checkpoint"))?;
    Ok(last.join(METHOD))
}

/// The checkpoints of any training in the folder, oldest first.
fn complete(folder: &Path) -> Result<Vec<(usize, PathBuf)>, PretrainError> {
    let all = entries(folder)?.into_iter().filter_map(|path| Some((step_of(&path)?, path)));
    let mut all: Vec<(usize, PathBuf)> = all.collect();
    all.sort_unstable();
    Ok(all)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, PretrainError> {
    let wrong = |e: std::io::Error| PretrainError::file(folder, e);
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path()).map_err(wrong)).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(wrong(e)),
    }
}

fn step_of(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

fn remove(path: &Path) -> Result<(), PretrainError> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    gone.map_err(|e| PretrainError::file(path, e))
}
