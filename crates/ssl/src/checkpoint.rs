//! Checkpoints: everything that decides the rest of a training, written whole or not at all.
//!
//! A checkpoint is a folder `step-N` with the method's parameters, buffers and queue, the
//! optimiser's state, the canaries' shadow of it, what was measured of the epoch so far, and the identity of the training (which holds its
//! seed). It is written under another name and renamed, so a folder `step-N` is always complete; the
//! oldest is removed afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;

use crate::PretrainError;
use crate::canary::Shadow;
use crate::train::Meter;

const METHOD: &str = "method.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const SHADOW: &str = "canaries.json";
const METER: &str = "epoch.json";
const IDENTITY: &str = "identity.txt";
const PREFIX: &str = "step-";

/// The checkpoint folder of one training.
pub(crate) struct Checkpoints {
    folder: PathBuf,
    identity: String,
    /// How many are kept, at least one.
    keep: usize,
}

/// What a checkpoint holds beside the method.
pub(crate) struct Saved {
    pub optimizer: ModuleOptimizer,
    pub shadow: Shadow,
    /// What was measured of the epoch so far.
    pub meter: Meter,
}

impl Checkpoints {
    /// `identity` tells this training from another one that used the same folder before: a
    /// checkpoint of another identity is never resumed.
    pub fn new(folder: PathBuf, identity: &str, keep: usize) -> Self {
        Self { folder, identity: identity.into(), keep: keep.max(1) }
    }

    /// The newest checkpoint of this training: its step and its folder. Anything else in the
    /// folder (torn or foreign) is removed.
    pub fn latest(&self) -> Result<Option<(usize, PathBuf)>, PretrainError> {
        let mut found: Option<(usize, PathBuf)> = None;
        for path in self.entries()? {
            let ours = fs::read_to_string(path.join(IDENTITY)).is_ok_and(|id| id == self.identity);
            match step_of(&path).filter(|_| ours) {
                None => remove(&path)?,
                Some(step) if found.as_ref().is_none_or(|(best, _)| step > *best) => {
                    found = Some((step, path));
                }
                Some(_) => {}
            }
        }
        Ok(found)
    }

    /// Saves the state after `step` steps and removes checkpoints older than the last few.
    pub fn save<M: Module>(
        &self,
        step: usize,
        method: &M,
        optimizer: &ModuleOptimizer,
        shadow: &Shadow,
        meter: &Meter,
    ) -> Result<(), PretrainError> {
        fs::create_dir_all(&self.folder).map_err(|e| PretrainError::file(&self.folder, e))?;
        let torn = self.folder.join(format!("tmp-{step}"));
        if torn.exists() {
            remove(&torn)?;
        }
        fs::create_dir(&torn).map_err(|e| PretrainError::file(&torn, e))?;
        let wrong = |name: &str, e: &dyn std::fmt::Display| PretrainError::file(torn.join(name), e);
        // `valid` brings the running statistics up to date; `into_record` alone lags one step.
        method.valid().into_record().save(torn.join(METHOD)).map_err(|e| wrong(METHOD, &e))?;
        optimizer.to_record().save(torn.join(OPTIMIZER)).map_err(|e| wrong(OPTIMIZER, &e))?;
        let shadow = serde_json::to_string(shadow).map_err(|e| wrong(SHADOW, &e))?;
        fs::write(torn.join(SHADOW), shadow).map_err(|e| wrong(SHADOW, &e))?;
        let meter = serde_json::to_string(meter).map_err(|e| wrong(METER, &e))?;
        fs::write(torn.join(METER), meter).map_err(|e| wrong(METER, &e))?;
        fs::write(torn.join(IDENTITY), &self.identity).map_err(|e| wrong(IDENTITY, &e))?;
        let done = self.folder.join(format!("{PREFIX}{step}"));
        fs::rename(&torn, &done).map_err(|e| PretrainError::file(&done, e))?;
        let all = self.complete()?;
        let old = all.len().saturating_sub(self.keep);
        all[..old].iter().try_for_each(|(_, path)| remove(path))
    }

    /// Puts a checkpoint back into a freshly built method and optimiser.
    pub fn load<M: Module>(
        &self,
        folder: &Path,
        method: M,
        optimizer: ModuleOptimizer,
    ) -> Result<(M, Saved), PretrainError> {
        let wrong =
            |name: &str, e: &dyn std::fmt::Display| PretrainError::file(folder.join(name), e);
        let record = ModuleRecord::load(folder.join(METHOD)).map_err(|e| wrong(METHOD, &e))?;
        let method = method.try_load_record(record).map_err(|e| wrong(METHOD, &e))?;
        let record =
            OptimizerRecord::load(folder.join(OPTIMIZER)).map_err(|e| wrong(OPTIMIZER, &e))?;
        let shadow = fs::read_to_string(folder.join(SHADOW)).map_err(|e| wrong(SHADOW, &e))?;
        let shadow = serde_json::from_str(&shadow).map_err(|e| wrong(SHADOW, &e))?;
        let meter = fs::read_to_string(folder.join(METER)).map_err(|e| wrong(METER, &e))?;
        let meter = serde_json::from_str(&meter).map_err(|e| wrong(METER, &e))?;
        Ok((method, Saved { optimizer: optimizer.load_record(record), shadow, meter }))
    }

    /// The checkpoints in the folder, of whatever training, the oldest first.
    fn complete(&self) -> Result<Vec<(usize, PathBuf)>, PretrainError> {
        let all = self.entries()?.into_iter().filter_map(|path| Some((step_of(&path)?, path)));
        let mut all: Vec<(usize, PathBuf)> = all.collect();
        all.sort_unstable();
        Ok(all)
    }

    fn entries(&self) -> Result<Vec<PathBuf>, PretrainError> {
        let wrong = |e: std::io::Error| PretrainError::file(&self.folder, e);
        match fs::read_dir(&self.folder) {
            Ok(entries) => entries.map(|e| e.map(|e| e.path()).map_err(wrong)).collect(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(wrong(e)),
        }
    }
}

/// The method's record of the newest checkpoint in `folder`, of whatever training.
pub(crate) fn newest(folder: &Path) -> Result<Option<PathBuf>, PretrainError> {
    let last = Checkpoints::new(folder.into(), "", 1).complete()?.pop();
    Ok(last.map(|(_, path)| path.join(METHOD)))
}

fn step_of(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

fn remove(path: &Path) -> Result<(), PretrainError> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    gone.map_err(|e| PretrainError::file(path, e))
}
