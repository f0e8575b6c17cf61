//! `manifest.json`: versions, device and seed of a run, and for each stage the hash of its inputs and of its artefacts.
//! A stage whose hashes are unchanged is skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::files::hash;
use super::made_by::MadeBy;
use super::stage_id::StageId;
use super::versioned;

/// The pinned version of Burn.
pub(crate) const BURN: &str = "0.22.1";

/// A finished stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Hash of everything that determines the artefacts.
    pub inputs: String,
    /// The parts of these inputs; empty in a manifest of an older version.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub from: serde_json::Map<String, serde_json::Value>,
    /// Hash by path, relative to the run folder.
    pub artefacts: BTreeMap<String, String>,
    /// Wall-clock seconds of the process that finished it.
    pub seconds: f64,
    /// The program that ran it.
    #[serde(default = "MadeBy::unknown")]
    pub made_by: MadeBy,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Schema version of the file.
    #[serde(default = "versioned::first")]
    pub schema: u32,
    pub name: String,
    pub version: String,
    pub burn: String,
    pub device: String,
    pub seed: u64,
    pub workers: usize,
    /// The run folder of the clean twin, seen from this run's, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<PathBuf>,
    pub stages: BTreeMap<StageId, Done>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// It is absent or broken, or has a later schema version.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        versioned::read(path)
    }

    /// All programs that ran a stage.
    pub(crate) fn makers(&self) -> Vec<MadeBy> {
        let mut makers: Vec<MadeBy> = Vec::new();
        for done in self.stages.values() {
            if !makers.contains(&done.made_by) {
                makers.push(done.made_by.clone());
            }
        }
        makers
    }

    /// Hash of everything behind the figures of a run: versions, device, seed, and inputs and artefacts of every
    /// stage up to the features. The same run has the same hash wherever and however long it ran.
    ///
    /// # Errors
    /// Never in practice: the stages are maps of strings.
    pub(crate) fn figures_hash(&self) -> Result<String> {
        let stages: Vec<_> = self
            .stages
            .iter()
            .filter(|(stage, _)| stage.is_before_the_scores())
            .map(|(stage, done)| (stage, &done.inputs, &done.artefacts))
            .collect();
        let all = (&self.version, &self.burn, &self.device, self.seed, stages);
        Ok(hash(serde_json::to_string(&all).context("cannot hash the manifest")?.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn review_2_06_the_version_of_burn_is_the_locked_one() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
        let lock: toml::Table = std::fs::read_to_string(lock).unwrap().parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let burn = packages.iter().find(|package| package["name"].as_str() == Some("burn"));
        assert_eq!(burn.unwrap()["version"].as_str(), Some(BURN));
    }
}
