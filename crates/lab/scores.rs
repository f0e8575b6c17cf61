//! `scores.json`: the contract that other tools read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::{Eval, LeftOut};
use ssl_backdoor_defend::{ModelId, Removal, Role};
use ssl_backdoor_probe::{Flow, Paired, Scores};
use ssl_backdoor_trigger::Rates;

use crate::made_by::{self, MadeBy};
use crate::trigger_size::TriggerSize;
use crate::versioned;

/// Key of the twin trained on clean images, and of images without the trigger.
pub(crate) const CLEAN: &str = Role::CLEAN.as_str();
/// Key of the model trained on the poisoned set.
pub(crate) const BACKDOORED: &str = Role::BACKDOORED.as_str();
/// Key of the encoder before any training.
pub(crate) const UNTRAINED: &str = Role::UNTRAINED.as_str();
/// Key of the images with the trigger.
pub(crate) const PATCHED: &str = "patched";

/// Scores by images: `clean` and `patched`.
pub(crate) type BySet = BTreeMap<String, Scores>;

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
    #[serde(default)]
    pub gathered: BTreeMap<ModelId, f64>,
    /// What each filter of the training set removed, by the model that was trained on the rest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed: BTreeMap<ModelId, Removal>,
    /// Every reading of the same features: other shares of labels, other seeds of the probe, neighbours.
    pub probes: Vec<Reading>,
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

/// One reading of the features of all models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// `linear`, or `knn-20`, or `knn-20-weighted`; with the stage of the encoder where it is not the output.
    pub probe: String,
    /// Share of labels.
    pub labels: f64,
    /// Seed of its weights and order; none where there are none.
    pub seed: Option<u64>,
    /// Why the figures of this reading are wrong, where a fault of the program was found later. Tables leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<String>,
    /// Scores by model and images.
    pub models: BTreeMap<ModelId, BySet>,
    /// Where the poison sends patched images; none in files of version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Backdoored against clean.
    #[serde(flatten)]
    pub net: Paired,
}

impl Reading {
    /// What was read and how, as the start of a sentence: the name in words and the share of labels.
    pub(crate) fn in_words(&self) -> String {
        let (name, of) = match self.probe.split_once(", ") {
            Some((name, part)) => (name, format!(" of {part}")),
            None => (self.probe.as_str(), String::new()),
        };
        let neighbours = |k: &str| match k {
            "1" => "nearest neighbour".to_owned(),
            k => format!("{k} nearest neighbours"),
        };
        let how = match name.strip_prefix("knn-") {
            None if name == "paper" => "The method's own probe".to_owned(),
            None => "Linear probe".to_owned(),
            Some(k) => match k.strip_suffix("-weighted") {
                Some(k) => format!("Weighted vote of the {}", neighbours(k)),
                None => format!("Vote of the {}", neighbours(k)),
            },
        };
        format!("{how}{of} on {} % labels", percent(self.labels))
    }
}

impl RunScores {
    /// Scores of `model` on `images`.
    pub fn get(&self, model: &str, images: &str) -> Option<&Scores> {
        self.models.get(model)?.get(images)
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
    use ssl_backdoor_probe::Paired;

    #[test]
    fn review_2_02_a_reading_says_what_it_is() {
        let net = Paired::of(&[0], &[0], &[0], None).unwrap();
        let words = |probe: &str, labels| {
            Reading {
                probe: probe.into(),
                labels,
                seed: None,
                superseded: None,
                flow: None,
                models: BTreeMap::new(),
                net,
            }
            .in_words()
        };
        for (probe, expected) in [
            ("linear", "Linear probe on 7 % labels"),
            ("linear, stage 2", "Linear probe of stage 2 on 7 % labels"),
            ("paper", "The method's own probe on 7 % labels"),
            ("paper, map 3", "The method's own probe of map 3 on 7 % labels"),
            ("knn-1", "Vote of the nearest neighbour on 7 % labels"),
            ("knn-20", "Vote of the 20 nearest neighbours on 7 % labels"),
            ("knn-5-weighted", "Weighted vote of the 5 nearest neighbours on 7 % labels"),
            ("knn-5, stage 4", "Vote of the 5 nearest neighbours of stage 4 on 7 % labels"),
        ] {
            assert_eq!(words(probe, 0.07), expected);
        }
        assert_eq!(
            [0.5, 0.01, 0.07, 0.29, 1.0 / 3.0].map(percent),
            [50.0, 1.0, 7.0, 29.0, 33.333_333]
        );
    }
}
