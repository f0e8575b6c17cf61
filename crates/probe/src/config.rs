//! The config of the probe: the classifier on the frozen features, and its labels.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ssl_backdoor_fields::require;

use crate::fine_tune::FineTuneConfig;
use crate::knn::check_neighbours;
use crate::{ProbeError, Vote};

/// Kinds of probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// A linear classifier.
    #[default]
    Linear,
    /// The nearest neighbours among the labelled images.
    Knn,
}

/// Rules of a linear probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The same for all methods, on features that are extracted once.
    #[default]
    Unified,
    /// For each method, the probe of its reference code.
    Paper,
}

/// Which training images carry labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "allowed are a list of shares of each class and the path of a file list"
)]
pub enum Labels {
    /// Shares of each class, above 0 and at most 1; the first one gives the headline figures.
    Shares(Vec<f64>),
    /// A file list that names the labelled images.
    List(PathBuf),
}

/// The `[probe]` table: which classifier is trained on the frozen features, and with how many labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// The probe that gives the headline figures.
    pub kind: ProbeKind,
    /// The rules of the linear probe.
    pub protocol: Protocol,
    /// Which training images have labels: a list of shares of each class, or a file list. The first share gives the
    /// headline figures.
    pub labels: Labels,
    /// Linear probes for each share of labels, each with its own weights and order. The first one gives the headline
    /// figures.
    #[schemars(range(min = 1, max = 1000))]
    pub seeds: u64,
    /// The stage of the encoder whose features are read, from 1 (ResNet: stem, layer1 to layer4; ViT: its blocks). Not
    /// with `protocol = "paper"`. Default: the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub stage: Option<usize>,
    /// Passes over the labelled images.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: usize,
    /// Images in a step; the last partial batch is kept.
    #[schemars(range(min = 1))]
    pub batch: usize,
    /// Learning rate; divided by 10 after epochs 15 and 30.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// Numbers of neighbours that vote; each one gives a separate k-NN result. With `kind = "knn"` an empty list stands
    /// for `[1]`.
    #[schemars(inner(range(min = 1)))]
    pub k: Vec<usize>,
    /// Neighbours vote with weight e^(cosine / temperature). Default: none, one vote each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01))]
    pub temperature: Option<f32>,
    /// Epochs of pretraining between two probes on dev images, for the curves of ASR and net flow; 0: probes only at the end.
    /// In a sweep, only runs with the same `[poison]` and `[probe]` then share a clean twin.
    pub curve_every: usize,
    /// Also fine-tunes each model on each share of labels. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fine_tune: Option<FineTuneConfig>,
}

impl Serialize for ProbeConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ProbeConfig {
    /// Reads the table and fills in the default of `k`, so that a resolved config names it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Self::deserialize(deserializer)?;
        Ok(Self { k: config.neighbours().to_vec(), ..config })
    }
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
            fine_tune: None,
        }
    }
}

impl ProbeConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`ProbeError::Range`] that names the field.
    pub fn check(&self) -> Result<(), ProbeError> {
        if let Labels::Shares(shares) = &self.labels {
            let fits = |share: &f64| *share > 0.0 && *share <= 1.0;
            let fits = !shares.is_empty() && shares.iter().all(fits);
            let allowed = "a list of shares of each class, above 0 and at most 1, or a file list";
            require(fits, "labels", format!("{shares:?}"), allowed)?;
        }
        require((1..=1000).contains(&self.seeds), "seeds", self.seeds, "1 to 1000")?;
        if let Some(stage) = self.stage {
            require(stage > 0, "stage", stage, "1 to the number of the encoder's stages")?;
            let allowed = "must be absent with protocol = \"paper\", which has its own";
            require(self.protocol != Protocol::Paper, "stage", stage, allowed)?;
        }
        require((1..=100_000).contains(&self.epochs), "epochs", self.epochs, "1 to 100,000")?;
        require(self.batch > 0, "batch", self.batch, "1 or more")?;
        require(self.lr.is_finite() && self.lr > 0.0, "lr", self.lr, "above 0")?;
        let allowed = "a list of numbers of neighbours, 1 or more each";
        require(!self.k.contains(&0), "k", format!("{:?}", self.k), allowed)?;
        if let Some(fine_tune) = &self.fine_tune {
            fine_tune.check()?;
        }
        if let Some(temperature) = self.temperature {
            let fits = temperature >= 0.01 && temperature.is_finite();
            require(fits, "temperature", temperature, "0.01 or more")?;
        }
        Ok(())
    }

    /// The numbers of neighbours, one for each k-NN reading: `k`, or `[1]` if `kind = "knn"` and `k` is empty. MSF
    /// and CompReSS report one neighbour, which needs only two labelled images.
    pub fn neighbours(&self) -> &[usize] {
        match self.kind {
            ProbeKind::Knn if self.k.is_empty() => &[1],
            _ => &self.k,
        }
    }

    /// Checks every `k` against the number of labelled images, which must be larger.
    ///
    /// # Errors
    /// [`ProbeError::Neighbours`] that names the k and the number of labelled images; [`ProbeError::Empty`] for none.
    pub fn check_labelled(&self, labelled: usize) -> Result<(), ProbeError> {
        if labelled == 0 {
            return Err(ProbeError::Empty { what: "labelled images" });
        }
        self.neighbours().iter().try_for_each(|&k| check_neighbours(k, labelled))
    }

    /// How neighbours vote.
    pub fn vote(&self) -> Vote {
        self.temperature.map_or(Vote::Majority, |temperature| Vote::Weighted { temperature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_f04_as_many_neighbours_as_labels_are_refused() {
        let config = ProbeConfig { k: vec![1, 20], ..ProbeConfig::default() };
        assert!(config.check_labelled(21).is_ok());
        for labelled in [2, 12, 20] {
            let message = config.check_labelled(labelled).unwrap_err().to_string();
            let named = [format!("there are {labelled}"), "k = 20".into()];
            assert!(named.iter().all(|word| message.contains(word)), "{message}");
        }
        let message = config.check_labelled(1).unwrap_err().to_string();
        assert!(message.contains("k = 1 "), "{message}");
        // A linear probe without k-NN takes any number of labels except 0.
        assert!(ProbeConfig::default().check_labelled(1).is_ok());
        assert!(ProbeConfig::default().check_labelled(0).is_err());
    }

    #[test]
    fn review_2_02_neighbours_alone_have_a_default() {
        let knn = ProbeConfig { kind: ProbeKind::Knn, ..ProbeConfig::default() };
        assert!(knn.check().is_ok());
        assert_eq!(knn.neighbours(), [1]);
        let five = ProbeConfig { k: vec![5], ..knn };
        assert_eq!(five.neighbours(), [5]);
        assert!(ProbeConfig::default().neighbours().is_empty());
    }
}
