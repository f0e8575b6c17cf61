//! Scans of the training images of runs: with their poison, and without.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use ssl_backdoor::{DataScanOptions, scan_data};
use ssl_backdoor_scan::PatchSearchConfig;

use crate::runs::Run;

/// A scanned set.
pub struct Scanned {
    pub name: String,
    pub method: String,
    pub poisoned: bool,
    pub net_asr: Option<f64>,
    /// The contents of `scan.json`.
    pub scan: Value,
}

impl Scanned {
    /// A figure of `scan.json` by its path.
    pub fn figure(&self, path: &str) -> Option<f64> {
        self.scan.pointer(path)?.as_f64()
    }

    /// Precision or recall (`of`) of the first 20, `by` the `ranking` or the strongest `patches`.
    pub fn at_20(&self, by: &str, of: &str) -> Option<f64> {
        let all = self.scan["truth"][by].as_array()?;
        all.iter().find(|at| at["k"] == 20)?[of].as_f64()
    }

    /// Share of suspected images that are poisoned (`of` = `/suspected`), or of poisoned ones that are suspected.
    pub fn share_found(&self, of: &str) -> Option<f64> {
        let all = self.figure(of).filter(|all| *all > 0.0)?;
        Some(self.figure("/truth/suspected")? / all)
    }
}

/// Scans the poisoned sets of `most` of the runs of the first method with their backdoored encoders, and the set
/// without poison with as many clean encoders of that method.
pub fn scanned(
    runs: &[Run],
    most: usize,
    search: &PatchSearchConfig,
    out: &Path,
) -> Result<Vec<Scanned>> {
    let mut all = Vec::new();
    let Some(method) = runs.first().map(|run| &run.method) else { return Ok(all) };
    for (model, poisoned) in [("backdoored", true), ("clean", false)] {
        let of_method = runs.iter().filter(|run| run.method == *method);
        let found: Vec<_> = of_method.filter_map(|run| Some((run, run.encoder(model)?))).collect();
        let count = most.min(found.len());
        // Spread over all runs: the first ones may be of one pair, or of one attack.
        for (run, encoder) in (0..count).map(|i| &found[i * found.len() / count]) {
            let name = format!("{}-{model}", run.name);
            let folder = out.join("sets").join(&name);
            let file = folder.join("scan.json");
            if !file.is_file() {
                let options = DataScanOptions {
                    images: run.config(),
                    encoder: Some(encoder.clone()),
                    out: Some(folder),
                    without_poison: !poisoned,
                    config: search.clone(),
                    ..DataScanOptions::default()
                };
                scan_data(&options).with_context(|| format!("cannot scan the set of {name}"))?;
            }
            let scan = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
            let (method, net_asr) = (run.method.clone(), run.net_asr.filter(|_| poisoned));
            all.push(Scanned { name, method, poisoned, net_asr, scan });
        }
    }
    Ok(all)
}
