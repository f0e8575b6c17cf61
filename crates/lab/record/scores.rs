//! `scores.json`: the contract that other tools read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::{Eval, LeftOut};
use ssl_backdoor_defend::{ModelId, Removal, Role};
use ssl_backdoor_probe::{Flow, Paired, Scores};
use ssl_backdoor_trigger::{Rates, Selected};

use super::images::Images;
use super::made_by::{self, MadeBy};
use super::probe_id::ProbeId;
use super::trigger_size::TriggerSize;
use super::versioned;

/// Key of the twin trained on clean images.
pub(crate) const CLEAN: &str = Role::CLEAN.as_str();
/// Key of the model trained on the poisoned set.
pub(crate) const BACKDOORED: &str = Role::BACKDOORED.as_str();
/// Key of the encoder before any training.
pub(crate) const UNTRAINED: &str = Role::UNTRAINED.as_str();
/// Scores by images.
pub(crate) type BySet = BTreeMap<Images, Scores>;

/// All figures of a run. Those at the top level are the headline's: the first entry of `probes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunScores {
    /// Version of the file's form. Later versions of this program may add keys without raising it.
    #[serde(default = "versioned::first")]
    pub schema: u32,
    /// The programs that made the figures: one, unless a run went on with another. Empty in files of version 0.1.
    #[serde(default)]
    pub made_by: Vec<MadeBy>,
    /// Name of the run.
    pub name: String,
    /// The method.
    pub method: String,
    /// The data set.
    pub data: String,
    /// The target class.
    pub target: Option<u32>,
    /// Its name.
    pub target_name: Option<String>,
    /// The trigger in a word.
    pub trigger: String,
    /// Number of classes.
    pub classes: u32,
    /// Their names, by class; empty in files of version 0.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Seed of the run.
    pub seed: u64,
    /// Which images it was scored on.
    pub eval: Eval,
    /// Number of evaluation images.
    pub images: usize,
    /// Optimisation steps of the pretraining.
    pub steps: usize,
    /// Training images.
    pub train_images: usize,
    /// Share of each class that carried labels (for an explicit list: of all training images).
    pub labels: f64,
    /// How much was poisoned.
    pub poison: Rates,
    /// How a rule chose the poisoned images, and the share of the class that most of them have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Selected>,
    /// How large the trigger is, and how views show it.
    #[serde(default)]
    pub trigger_size: Option<TriggerSize>,
    /// What the data set's folders and lists held but the run did not use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// What the clean twin should reach on clean images, and whether it does.
    pub expected: Option<Expected>,
    /// Accuracy in percent of the same probe on raw pixels; none for large images.
    #[serde(default)]
    pub raw_pixels: Option<f64>,
    /// Scores by model (`untrained`, `clean`, `backdoored`, defended models and controls) and images (`clean`,
    /// `patched`).
    pub models: BTreeMap<ModelId, BySet>,
    /// The backdoored model against its clean twin on the same patched images.
    pub net_asr: Option<f64>,
    /// Its 95 % interval (Newcombe, paired).
    pub net_asr_ci: Option<[f64; 2]>,
    /// Accuracy of the twin minus that of the backdoored model on patched images.
    pub patched_drop: f64,
    /// Its interval.
    pub patched_drop_ci: [f64; 2],
    /// McNemar's exact p-value of `net_asr`, or without a target of `patched_drop`.
    pub mcnemar_p: f64,
    /// Where the poison sends patched images.
    #[serde(default)]
    pub flow: Option<Flow>,
    /// Percent of the patched images of other classes whose ten nearest clean images are mostly the target's, by model.
    #[serde(default, rename = "gathered")]
    pub target_neighbour_share: BTreeMap<ModelId, f64>,
    /// What each filter of the training set removed, by the model that was trained on the rest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed: BTreeMap<ModelId, Removal>,
    /// What every probe says of the same features: other shares of labels, other seeds of the probe, neighbours.
    pub probes: Vec<ProbeResult>,
    /// BLAKE3 of the resolved config.
    pub config_hash: String,
    /// BLAKE3 of the inputs and artefacts of the stages before the scores, as `manifest.json` lists them.
    pub manifest_hash: String,
}

/// What a victim that is worth attacking reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Least accuracy of the clean twin on clean images, in percent.
    pub low: f64,
    /// Where that comes from.
    pub source: String,
    /// The clean twin stays below: no figure of the run says much about the method.
    pub under_trained: bool,
}

/// A share of labels in percent, for a text: without the digits that binary fractions add (7 %, not
/// 7.000000000000001 %).
pub(crate) fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

/// A defended model against the clean twin on the same patched images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// Its net ASR and patched drop: the backdoored model's, with the defended model in its place.
    #[serde(flatten)]
    pub net: Paired,
    /// Where its patched images go.
    pub flow: Flow,
}

/// What one probe says of all models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Which probe it is.
    pub probe: ProbeId,
    /// Share of labels.
    pub labels: f64,
    /// Seed of its weights and order; none where there are none.
    pub seed: Option<u64>,
    /// Why its figures are wrong, where a fault of the program was found later. Tables leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<String>,
    /// Scores by model and images.
    pub models: BTreeMap<ModelId, BySet>,
    /// Where the poison sends patched images; none in files of version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Every defended model against the clean twin; none in files of version 0.1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defended: BTreeMap<ModelId, Against>,
    /// Backdoored against clean.
    #[serde(flatten)]
    pub net: Paired,
}

impl ProbeResult {
    /// What was read and how, as the start of a sentence: the name in words and the share of labels.
    pub(crate) fn in_words(&self) -> String {
        format!("{} on {} % labels", self.probe.in_words(), percent(self.labels))
    }
}

impl RunScores {
    /// Scores of `model` on `images`.
    pub fn get(&self, model: &str, images: Images) -> Option<&Scores> {
        self.models.get(model)?.get(&images)
    }

    /// The version of the numerics that made the figures; none if there were several.
    pub fn numerics(&self) -> Option<u32> {
        let mut versions = self.made_by.iter().map(|made_by| made_by.numerics);
        let Some(one) = versions.next() else { return Some(made_by::first()) };
        versions.all(|other| other == one).then_some(one)
    }

    /// The name of `class`.
    pub fn class_name(&self, class: usize) -> String {
        self.class_names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }

    /// Whether the victim is under-trained.
    pub fn under_trained(&self) -> bool {
        self.expected.as_ref().is_some_and(|expected| expected.under_trained)
    }

    /// Reads a `scores.json`.
    ///
    /// # Errors
    /// It is absent or broken, or its form is that of a later version.
    pub fn read(path: &Path) -> Result<Self> {
        versioned::read(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn review_2_02_shares_are_shown_without_the_digits_of_binary_fractions() {
        assert_eq!(
            [0.5, 0.01, 0.07, 0.29, 1.0 / 3.0].map(percent),
            [50.0, 1.0, 7.0, 29.0, 33.333_333]
        );
    }
}
