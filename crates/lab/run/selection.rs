//! Images chosen by a rule with an encoder's features (`poison.select`), before the attack is planned.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::{Normalization, Splits};
use ssl_backdoor_model::{EncoderHeader, Preprocessing, load_encoder};
use ssl_backdoor_probe::{Features, evaluation_filter, extract_normalized};
use ssl_backdoor_trigger::{
    Chosen, FeatureRows, PoisonConfig, Select, Selected, TrainingSet, TriggerError,
};

use super::folder::RunFolder;
use super::progress;
use crate::config::Source;
use crate::record::{Artefact, NUMERICS, hash};
use crate::shell::path_word;

/// The choice and its inputs.
#[derive(Serialize, Deserialize)]
struct Kept {
    inputs: String,
    chosen: Chosen,
}

/// The inputs of a selection besides the config of the attack.
pub(crate) struct Choice<'a> {
    pub splits: &'a Splits,
    pub seed: u64,
    pub device: &'a Device,
    /// Where the values of the config were written.
    pub source: &'a Source,
}

impl Choice<'_> {
    /// Returns `poison` with the images that its rule chooses, if it has one. A run stores them in its folder,
    /// because extracting the features of a large set takes long.
    ///
    /// # Errors
    /// The file is not an encoder file, or more images are requested than the rule can choose.
    pub(crate) fn of(
        &self,
        poison: &PoisonConfig,
        folder: Option<&RunFolder>,
    ) -> Result<PoisonConfig> {
        let Some(select) = poison.select.as_ref().filter(|select| select.chosen.is_none()) else {
            return Ok(poison.clone());
        };
        let file = select.encoder.as_deref().filter(|_| select.kind.needs_features());
        let encoder_hash = file.map(|file| self.hashed(file)).transpose()?;
        let inputs = self.inputs(poison, encoder_hash.as_deref())?;
        if let Some(chosen) = folder.and_then(|folder| kept(folder, &inputs)) {
            let select = Some(Select { chosen: Some(chosen), ..select.clone() });
            return Ok(PoisonConfig { select, ..poison.clone() });
        }
        let features = file.map(|file| self.features(file)).transpose()?;
        let rows = features.as_ref().map(|of| FeatureRows { values: &of.values, dim: of.dim });
        let Splits { train, classes, .. } = self.splits;
        let set = TrainingSet { labels: &train.labels, classes, listed: &[] };
        let found = poison.choose(&set, rows, encoder_hash, self.seed);
        let found = found.map_err(|e| self.source.wrong(e))?;
        let chosen = found.select.as_ref().and_then(|select| select.chosen.clone());
        if let (Some(folder), Some(chosen)) = (folder, chosen) {
            let text = serde_json::to_vec_pretty(&Kept { inputs, chosen })?;
            folder.write(Artefact::Selection, &text)?;
        }
        Ok(found)
    }

    fn hashed(&self, file: &Path) -> Result<String> {
        let bytes = std::fs::read(file).map_err(|error| self.wrong(file, &error.to_string()))?;
        Ok(hash(&bytes))
    }

    /// A hash of everything that determines the choice.
    fn inputs(&self, poison: &PoisonConfig, encoder_hash: Option<&str>) -> Result<String> {
        let PoisonConfig { target, rate, dataset_rate, count, select, .. } = poison;
        let select = select.clone().map(|select| Select { encoder: None, ..select });
        let amount = (target, rate, dataset_rate, count);
        let (print, seed) = (&self.splits.fingerprint.train, self.seed);
        let all = serde_json::to_string(&(amount, select, encoder_hash, print, seed, NUMERICS))?;
        Ok(hash(all.as_bytes()))
    }

    /// The features of all training images, prepared as the encoder file records.
    fn features(&self, file: &Path) -> Result<Features> {
        let header = EncoderHeader::read(file)?.ok_or_else(|| {
            let reason = format!(
                "does not record how its images were prepared: add it with `ssl-backdoor convert {} \
                 OUT.safetensors`",
                path_word(file)
            );
            self.wrong(file, &reason)
        })?;
        let filter = evaluation_filter(&header.preprocessing);
        let Preprocessing { size, mean, std, .. } = header.preprocessing;
        let encoder = load_encoder(&header, file, self.device)?;
        let set = self.splits.prepared_by(&self.splits.train, size, filter);
        let normalization = Normalization { mean, std };
        let one = |images| vec![encoder.forward(images)];
        let device = self.device.clone().without_autodiff();
        let found =
            extract_normalized(&set, &normalization, &device, &progress::watch(), one)?.pop();
        found.context("the encoder gave no features")
    }

    fn wrong(&self, file: &Path, reason: &str) -> anyhow::Error {
        let error = TriggerError::Picture {
            field: "select.encoder",
            path: file.into(),
            reason: reason.into(),
        };
        self.source.wrong(error).into()
    }
}

/// The choice of an earlier start of the run, if its inputs were the same.
fn kept(folder: &RunFolder, inputs: &str) -> Option<Chosen> {
    let text = std::fs::read(folder.join(Artefact::Selection)).ok()?;
    let kept: Kept = serde_json::from_slice(&text).ok()?;
    (kept.inputs == inputs).then_some(kept.chosen)
}

/// The choice, in a sentence.
pub(crate) fn told(selected: &Selected, count: usize, classes: &[String]) -> String {
    let kind = selected.kind;
    match selected.class.and_then(|class| classes.get(class as usize)) {
        Some(class) => {
            let share = 100.0 * selected.class_share;
            format!("selection: {kind} chose {count} images, {share:.1} % of them of class {class}")
        }
        None => format!("selection: {kind} chose {count} images, which have no labels"),
    }
}
