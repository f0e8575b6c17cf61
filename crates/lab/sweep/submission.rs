//! The Slurm jobs of a sweep, recorded beside its scripts.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::record::write_whole;

/// Folder of the scripts, among the run folders.
const FOLDER: &str = "slurm";
const FILE: &str = "jobs.json";

/// Ids of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Submission {
    /// The array that trains the clean twins.
    pub twins: String,
    /// The array of the runs.
    pub runs: String,
    /// The job that collects the figures.
    pub collect: String,
}

impl Submission {
    /// The folder for the scripts and logs of a sweep whose run folders are in `out`.
    pub fn folder(out: &Path) -> PathBuf {
        out.join(FOLDER)
    }

    /// The last submission, if there was one.
    pub fn read(out: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::folder(out).join(FILE)).ok()?).ok()
    }

    /// Records the submission.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        write_whole(&Self::folder(out).join(FILE), &serde_json::to_vec_pretty(self)?)
    }

    /// All ids, joined by `between`.
    pub fn ids(&self, between: &str) -> String {
        [self.twins.as_str(), &self.runs, &self.collect].join(between)
    }
}
