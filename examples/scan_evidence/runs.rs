//! Run folders and their encoders.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ssl_backdoor::{Experiment, RunScores};

/// How many levels below a given folder to look for run folders.
const DEPTH: usize = 3;

/// A run folder.
pub struct Run {
    pub path: PathBuf,
    /// A name that is unique among all runs.
    pub name: String,
    pub method: String,
    /// In points; `None` without scores, as in the folder of a twin, or without a target.
    pub net_asr: Option<f64>,
}

impl Run {
    /// The encoder file of `model`, if it is there.
    pub fn encoder(&self, model: &str) -> Option<PathBuf> {
        let file = self.path.join(model).join("encoder.safetensors");
        file.is_file().then_some(file)
    }

    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }
}

/// All run folders below `folders`, in the order of their names.
pub fn find(folders: &[PathBuf]) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for (i, folder) in folders.iter().enumerate() {
        let mut found = Vec::new();
        walk(folder, DEPTH, &mut found)?;
        found.sort();
        for path in found {
            let inner = path.strip_prefix(folder)?.display().to_string().replace(['/', '\\'], "-");
            let experiment = Experiment::read(&path.join("config.toml"), &[])?;
            let scores = path.join("scores.json");
            let net_asr = match scores.is_file() {
                true => RunScores::read(&scores)?.net_asr,
                false => None,
            };
            let method = experiment.pretrain.method.settings().name().to_owned();
            runs.push(Run { path, name: format!("{i}-{inner}"), method, net_asr });
        }
    }
    Ok(runs)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join("config.toml").is_file() {
        found.push(folder.to_owned());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let shown = folder.display();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, depth - 1, found)?;
        }
    }
    Ok(())
}
