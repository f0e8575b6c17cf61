//! `scores.json`, which other tools read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::{Eval, LeftOut};
use ssl_backdoor_defend::{ModelId, Removal, Role};
use ssl_backdoor_probe::{Flow, Paired, Scores};
use ssl_backdoor_trigger::{Rates, Selected};

use super::images::Images;
use super::made_by::{FIRST_NUMERICS, MadeBy};
use super::onset::OnsetPoint;
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

/// All figures of a run. Those at the top level are the headline figures: the first entry of `probes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunScores {
    /// Schema version of the file. Later versions of this program may add keys without raising it.
    #[serde(default = "versioned::first")]
    pub schema: u32,
    /// The programs that produced the figures: one, unless the run was resumed with another. Empty in files of version 0.1.
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
    /// The trigger in words.
    pub trigger: String,
    /// Number of classes.
    pub classes: u32,
    /// Their names, by class; empty in files of version 0.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Seed of the run.
    pub seed: u64,
    /// The evaluation images that were scored.
    pub eval: Eval,
    /// Number of evaluation images.
    pub images: usize,
    /// Optimisation steps of the pretraining.
    pub steps: usize,
    /// Training images.
    pub train_images: usize,
    /// Share of each class with labels (for a list: share of all training images).
    pub labels: f64,
    /// The poison rates.
    pub poison: Rates,
    /// The rule that chose the poisoned images, and the share of the majority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Selected>,
    /// The size of the trigger and its visibility in views.
    #[serde(default)]
    pub trigger_size: Option<TriggerSize>,
    /// Contents of the data set's folders and lists that the run did not use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// The expected accuracy of the clean twin on clean images, and whether it is reached.
    pub expected: Option<Expected>,
    /// Accuracy in percent of the same probe on raw pixels; `None` for large images.
    #[serde(default)]
    pub raw_pixels: Option<f64>,
    /// Scores by model (`untrained`, `clean`, `backdoored`, defended models and controls) and images (`clean`,
    /// `patched`).
    pub models: BTreeMap<ModelId, BySet>,
    /// ASR of the backdoored model minus that of its clean twin on the same patched images.
    pub net_asr: Option<f64>,
    /// Its 95 % interval (Newcombe, paired).
    pub net_asr_ci: Option<[f64; 2]>,
    /// Accuracy of the twin minus that of the backdoored model on patched images.
    pub patched_drop: f64,
    /// Its interval.
    pub patched_drop_ci: [f64; 2],
    /// McNemar's exact p-value of `net_asr`, or without a target of `patched_drop`.
    pub mcnemar_p: f64,
    /// The net flow of patched images.
    #[serde(default)]
    pub flow: Option<Flow>,
    /// The net flow of patched dev images during the training, if `probe.curve_every` is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub onset: Vec<OnsetPoint>,
    /// Percent of the patched images of other classes whose ten nearest clean images are mostly of the target class, by model.
    #[serde(default, rename = "gathered")]
    pub target_neighbour_share: BTreeMap<ModelId, f64>,
    /// The images removed by each filter of the training set, by the model trained on the rest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed: BTreeMap<ModelId, Removal>,
    /// The results of every probe on the same features: label shares, seeds of the probe, neighbours.
    pub probes: Vec<ProbeResult>,
    /// BLAKE3 of the resolved config.
    pub config_hash: String,
    /// BLAKE3 of the inputs and artefacts of the stages before the scores, as `manifest.json` lists them.
    pub manifest_hash: String,
}

/// The expected accuracy of a trained victim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Least accuracy of the clean twin on clean images, in percent.
    pub low: f64,
    /// The source of this value.
    pub source: String,
    /// The clean twin is below: the figures of the run say little about the method.
    pub under_trained: bool,
}

/// A label share in percent, without the digits that binary fractions add (7 %, not 7.000000000000001 %).
pub(crate) fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

/// A defended model compared with the clean twin on the same patched images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// Net ASR and patched drop of the defended model.
    #[serde(flatten)]
    pub net: Paired,
    /// The net flow of its patched images.
    pub flow: Flow,
}

/// The result of one probe for all models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The probe.
    pub probe: ProbeId,
    /// Share of labels.
    pub labels: f64,
    /// Seed of its weights and order; `None` if it has none.
    pub seed: Option<u64>,
    /// Why its figures are wrong, if a fault of the program was found later. Tables omit them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<String>,
    /// Scores by model and images.
    pub models: BTreeMap<ModelId, BySet>,
    /// The net flow of patched images; `None` in files of version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Every defended model compared with the clean twin; empty in files of version 0.1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defended: BTreeMap<ModelId, Against>,
    /// The backdoored model compared with its clean twin.
    #[serde(flatten)]
    pub net: Paired,
}

impl ProbeResult {
    /// The probe in words and the label share, as the start of a sentence.
    pub(crate) fn in_words(&self) -> String {
        format!("{} on {} % labels", self.probe.in_words(), percent(self.labels))
    }
}

impl RunScores {
    /// Scores of `model` on `images`.
    pub fn get(&self, model: &str, images: Images) -> Option<&Scores> {
        self.models.get(model)?.get(&images)
    }

    /// The numerics version of the figures; `None` if there were several.
    pub fn numerics(&self) -> Option<u32> {
        let mut versions = self.made_by.iter().map(|made_by| made_by.numerics);
        let Some(one) = versions.next() else { return Some(FIRST_NUMERICS) };
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
    /// It is absent or broken, or has a later schema version.
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
