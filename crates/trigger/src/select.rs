//! The no-label backdoor (*How to Craft Backdoors with Unlabeled Data Alone?*, arXiv 2404.06694): the poisoned images
//! are chosen by the features of an encoder, without labels, so that most of them belong to one class.
//!
//! A rule chooses n images by their features, which are normalised to length 1: by anchor and neighbours
//! (`neighbours.rs`) or by clusters (`clusters.rs`). The labels then show which class most of the chosen images have.
//! The attack is scored on that class, unless the config names a target.

mod clusters;
mod neighbours;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_rng::ranked;

use crate::{TrainingSet, TriggerError, purpose};
use neighbours::Weights;

/// A rule that chooses the poisoned images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The image whose n nearest neighbours are much nearer than the next n, and these n.
    Con,
    /// The image whose n nearest neighbours are nearest, and these n.
    Conp,
    /// The image whose next n neighbours are farthest, and its n nearest.
    Conn,
    /// The first n images of the smallest k-means cluster that has n images.
    Kmean,
    /// Baseline: a sample of the target class.
    Target,
    /// Baseline: a sample of all images.
    Random,
}

/// The name of the rule in a config.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Con => "con",
            Self::Conp => "conp",
            Self::Conn => "conn",
            Self::Kmean => "kmean",
            Self::Target => "target",
            Self::Random => "random",
        })
    }
}

impl Rule {
    /// Whether the rule uses features.
    pub fn needs_features(self) -> bool {
        !matches!(self, Self::Target | Self::Random)
    }
}

/// How the poisoned images are chosen; the field `select` of [`PoisonConfig`](crate::PoisonConfig).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// The rule.
    pub kind: Rule,
    /// File of the encoder whose features the rule uses. Needed by `con`, `conp`, `conn` and `kmean`; the baselines
    /// refuse it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<PathBuf>,
    /// Clusters of `kmean`. Default: the number of classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub clusters: Option<usize>,
    /// The chosen images. An export states them, so that it can be verified without the encoder. Default: chosen by the
    /// rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
}

/// The images that a rule chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// BLAKE3 hash of the encoder file, in hexadecimal. Default: none, for a rule without features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_hash: Option<String>,
    /// Ids of the images.
    pub ids: Vec<u64>,
}

/// A choice, as recorded in a ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selected {
    /// The rule.
    pub kind: Rule,
    /// BLAKE3 of the encoder's file, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_hash: Option<String>,
    /// The class that most of the chosen images belong to, the lowest of several; none for images without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<u32>,
    /// Their share of the chosen images, 0 to 1 (TPR in the paper).
    pub class_share: f64,
}

/// Features of the training images.
#[derive(Debug, Clone, Copy)]
pub struct FeatureRows<'a> {
    /// `[images, dim]`, row by row, in the order of [`TrainingSet::labels`].
    pub values: &'a [f32],
    /// Length of a feature.
    pub dim: usize,
}

impl FeatureRows<'_> {
    /// The rows, normalised to length 1; a row of zeros does not change.
    fn normalized(&self) -> Vec<f32> {
        let mut values = self.values.to_vec();
        for row in values.chunks_exact_mut(self.dim.max(1)) {
            let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
            }
        }
        values
    }
}

impl Select {
    /// The `rule` on the features of the encoder in the file `encoder`.
    pub fn new(rule: Rule, encoder: Option<PathBuf>) -> Self {
        Self { kind: rule, encoder, clusters: None, chosen: None }
    }

    /// Checks everything that needs no data; `targeted` tells whether the config names a target.
    pub(crate) fn check(&self, targeted: bool) -> Result<(), TriggerError> {
        let kind = self.kind;
        let shown = format!("\"{kind}\"");
        let wrong = |field: &str, value: &str, allowed: &str| {
            Err(OutOfRange::new(field, value, allowed).into())
        };
        if kind.needs_features() && self.encoder.is_none() {
            return wrong("select.kind", &shown, "it uses features: set select.encoder");
        }
        if let (false, Some(path)) = (kind.needs_features(), &self.encoder) {
            let path = format!("{:?}", path.display().to_string());
            return wrong("select.encoder", &path, "this kind uses no features: remove it");
        }
        if kind == Rule::Target && !targeted {
            return wrong(
                "select.kind",
                &shown,
                "it chooses images of the target class: set target",
            );
        }
        match self.clusters {
            Some(clusters) if kind != Rule::Kmean => {
                let allowed = "only kind = \"kmean\" has clusters: remove it";
                wrong("select.clusters", &clusters.to_string(), allowed)
            }
            Some(0) => wrong("select.clusters", "0", "allowed is 1 or more"),
            _ => Ok(()),
        }
    }

    /// The positions of `count` images of `set`. `target` is the index of the target class.
    ///
    /// # Errors
    /// The rule cannot choose `count` images, or `features` are not those of the set.
    pub(crate) fn positions(
        &self,
        set: &TrainingSet<'_>,
        target: Option<u32>,
        features: Option<FeatureRows<'_>>,
        count: usize,
        seed: u64,
    ) -> Result<Vec<usize>, TriggerError> {
        let images = set.labels.len();
        let wrong = |value: &str, allowed: String| {
            TriggerError::Range(OutOfRange::new("select.kind", value, allowed))
        };
        let shown = format!("\"{}\"", self.kind);
        if !self.kind.needs_features() {
            let baseline = |class: u32| self.kind == Rule::Random || Some(class) == target;
            let pool: Vec<u64> = (0..images as u64)
                .filter(|&i| baseline(set.labels[i as usize].1))
                .map(|i| set.labels[i as usize].0)
                .collect();
            enough(&shown, count, pool.len())?;
            let at: BTreeMap<u64, usize> = (0..images).map(|i| (set.labels[i].0, i)).collect();
            let ids = ranked(&pool, seed, purpose::PLAN, 0);
            return Ok(ids.into_iter().take(count).map(|id| at[&id]).collect());
        }
        let fits = features.filter(|rows| rows.dim > 0 && rows.values.len() == images * rows.dim);
        let rows = fits.ok_or_else(|| {
            wrong(&shown, format!("it needs a feature of each of the {images} training images"))
        })?;
        if rows.values.iter().any(|value| !value.is_finite()) {
            return Err(wrong(&shown, "a feature is not finite: the encoder is broken".into()));
        }
        let values = rows.normalized();
        match self.kind {
            Rule::Kmean => {
                let clusters = self.clusters.unwrap_or(set.classes.len()).max(1);
                require(
                    clusters <= images,
                    "select.clusters",
                    clusters,
                    format!("allowed are 1 to {images}, the training images"),
                )?;
                let found = clusters::smallest(&values, rows.dim, clusters, count, seed);
                found.ok_or_else(|| {
                    wrong(
                        &shown,
                        format!("none of {clusters} clusters has {count} images: poison fewer"),
                    )
                })
            }
            rule => {
                let (near, next) = match rule {
                    Rule::Conp => (1.0, 0.0),
                    Rule::Conn => (0.0, -1.0),
                    _ => (1.0, -1.0),
                };
                enough(&shown, if next == 0.0 { count } else { 2 * count }, images)?;
                Ok(neighbours::nearest(&values, rows.dim, count, Weights { near, next }))
            }
        }
    }
}

/// Checks that at least `needed` images are available; `there` is the number of them.
fn enough(kind: &str, needed: usize, there: usize) -> Result<(), OutOfRange> {
    let allowed = format!("it needs {needed} images, but there are only {there}: poison fewer");
    require(needed <= there, "select.kind", kind, allowed)
}

impl Selected {
    /// The choice `chosen` of `select` from `set`, with its most frequent class.
    pub(crate) fn of(select: &Select, chosen: &Chosen, set: &TrainingSet<'_>) -> Self {
        let ids: std::collections::BTreeSet<u64> = chosen.ids.iter().copied().collect();
        let mut counts = vec![0usize; set.classes.len()];
        for (_, class) in set.labels.iter().filter(|(id, _)| ids.contains(id)) {
            if let Some(count) = counts.get_mut(*class as usize) {
                *count += 1;
            }
        }
        let most = (0..counts.len()).rev().max_by_key(|&class| counts[class]);
        let class = most.filter(|&class| counts[class] > 0);
        let share = class.map_or(0.0, |class| counts[class] as f64 / ids.len().max(1) as f64);
        Self {
            kind: select.kind,
            encoder_hash: chosen.encoder_hash.clone(),
            class: class.map(|class| class as u32),
            class_share: share,
        }
    }
}

#[cfg(test)]
mod tests;
