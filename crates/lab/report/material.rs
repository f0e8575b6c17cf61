//! The data behind the report of a run.

use std::collections::BTreeMap;

use serde_json::Value;
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_defend::ModelId;
use ssl_backdoor_trigger::PoisonPlan;

use crate::record::{FeatureMap, RunScans, RunScores};

/// The data behind a report.
pub(crate) struct Material<'a> {
    pub scores: &'a RunScores,
    /// The resolved config as TOML.
    pub config: &'a str,
    /// Class names.
    pub classes: &'a [String],
    /// Lines of `metrics.jsonl` of the clean twin and of the backdoored model.
    pub metrics: [Vec<Value>; 2],
    /// The findings of the scans, if the config has them.
    pub scans: Option<RunScans>,
    /// The strongest trigger that each scan reconstructed for each model, as PNG, by model and scan.
    pub triggers: BTreeMap<(ModelId, String), Vec<u8>>,
    /// Feature maps by model.
    pub maps: BTreeMap<ModelId, FeatureMap>,
    /// The poisoned training set with its plan and labels, and the evaluation images without and with
    /// trigger.
    pub poisoned: (SampleSet, &'a PoisonPlan, &'a [(u64, u32)]),
    pub evaluation: [SampleSet; 2],
    /// Versions and device, one line.
    pub made_with: String,
}
