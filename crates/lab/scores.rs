//! `scores.json`: the contract that other tools read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ssl_backdoor_data::Eval;
use ssl_backdoor_probe::{Paired, Scores};
use ssl_backdoor_trigger::Rates;

/// Key of the twin trained on clean images, and of images without the trigger.
pub(crate) const CLEAN: &str = "clean";
/// Key of the model trained on the poisoned set.
pub(crate) const BACKDOORED: &str = "backdoored";
/// Key of the encoder before any training.
pub(crate) const UNTRAINED: &str = "untrained";
/// Key of the images with the trigger.
pub(crate) const PATCHED: &str = "patched";

/// All figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunScores {
    /// Name of the run.
    pub name: String,
    /// The method.
    pub method: String,
    /// The target class.
    pub target: Option<u32>,
    /// Number of classes.
    pub classes: u32,
    /// Seed of the run.
    pub seed: u64,
    /// Which images it was scored on.
    pub eval: Eval,
    /// Number of evaluation images.
    pub images: usize,
    /// Share of each class that carried labels (for an explicit list: of all training images).
    pub labels: f64,
    /// How much was poisoned.
    pub poison: Rates,
    /// Scores by model (`untrained`, `clean`, `backdoored`) and images (`clean`, `patched`).
    pub models: BTreeMap<String, BTreeMap<String, Scores>>,
    /// The backdoored model against its clean twin on the same patched images.
    #[serde(flatten)]
    pub net: Paired,
}

impl RunScores {
    /// Scores of `model` on `images`.
    pub fn get(&self, model: &str, images: &str) -> Option<&Scores> {
        self.models.get(model)?.get(images)
    }
}
