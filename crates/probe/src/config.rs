//! The `[probe]` table: what reads the frozen features out, and with how many labels.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ProbeError, Vote};

/// Kinds of probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// A linear classifier.
    #[default]
    Linear,
    /// The nearest neighbours among the labelled images.
    Knn,
}

/// Rules of a linear probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The same for all methods: on features extracted once.
    #[default]
    Unified,
    /// Each method's own (protocol 3.2 to 3.5 and 2.6).
    Paper,
}

/// Which training images carry labels; `probe.labels`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "allowed are a list of shares of each class and the path of a file list"
)]
pub enum Labels {
    /// Shares of each class; the first is the headline's.
    Shares(Vec<f64>),
    /// A file list that names them.
    List(PathBuf),
}

/// The `[probe]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// What the headline's figures come from.
    pub kind: ProbeKind,
    /// The rules.
    pub protocol: Protocol,
    /// Which training images carry labels.
    pub labels: Labels,
    /// Linear probes for each share of labels, each with weights and an order of its own; the first is the
    /// headline's.
    pub seeds: u64,
    /// The stage of the encoder that is read, from 1 (a ResNet: stem, layer1 to layer4; a ViT: its blocks);
    /// absent = its output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<usize>,
    /// Passes over the labelled images.
    pub epochs: usize,
    /// Images in a step; the last partial batch is kept.
    pub batch: usize,
    /// Learning rate, divided by 10 after epochs 15 and 30.
    pub lr: f64,
    /// How many neighbours vote; each number is a reading of its own.
    pub k: Vec<usize>,
    /// Neighbours vote with e^(cosine / temperature); absent = one vote each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Probe after every so many epochs of pretraining, for the curve; 0 = only at the end.
    pub curve_every: usize,
}

impl Default for ProbeConfig {
    /// Protocol 3.2 at 1 % labels; k-NN off.
    fn default() -> Self {
        Self {
            kind: ProbeKind::Linear,
            protocol: Protocol::Unified,
            labels: Labels::Shares(vec![0.01]),
            seeds: 1,
            stage: None,
            epochs: 40,
            batch: 256,
            lr: 0.01,
            k: Vec::new(),
            temperature: None,
            curve_every: 0,
        }
    }
}

impl ProbeConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`ProbeError::Range`] that names the key.
    pub fn check(&self) -> Result<(), ProbeError> {
        let range = |key, value: String, allowed| Err(ProbeError::Range { key, value, allowed });
        if let Labels::Shares(shares) = &self.labels
            && (shares.is_empty() || !shares.iter().all(|share| *share > 0.0 && *share <= 1.0))
        {
            let allowed = "a list of shares of each class, above 0 and at most 1, or a file list";
            return range("probe.labels", format!("{shares:?}"), allowed);
        }
        if !(1..=1000).contains(&self.seeds) {
            return range("probe.seeds", self.seeds.to_string(), "1 to 1000");
        }
        if self.stage == Some(0) {
            return range("probe.stage", "0".into(), "1 to the number of the encoder's stages");
        }
        if self.protocol == Protocol::Paper
            && let Some(stage) = self.stage
        {
            let allowed = "absent with protocol = \"paper\", which says itself what is read";
            return range("probe.stage", stage.to_string(), allowed);
        }
        if !(1..=100_000).contains(&self.epochs) {
            return range("probe.epochs", self.epochs.to_string(), "1 to 100,000");
        }
        if self.batch == 0 {
            return range("probe.batch", self.batch.to_string(), "1 or more");
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return range("probe.lr", self.lr.to_string(), "above 0");
        }
        if self.k.contains(&0) || (self.k.is_empty() && self.kind == ProbeKind::Knn) {
            let allowed = "a list of numbers of neighbours, 1 or more each";
            return range("probe.k", format!("{:?}", self.k), allowed);
        }
        if let Some(temperature) = self.temperature
            && !(temperature >= 0.01 && temperature.is_finite())
        {
            return range("probe.temperature", temperature.to_string(), "0.01 or more");
        }
        Ok(())
    }

    /// How neighbours vote.
    pub fn vote(&self) -> Vote {
        self.temperature.map_or(Vote::Majority, |temperature| Vote::Weighted { temperature })
    }
}
