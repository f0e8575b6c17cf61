//! Figures of the paper and of others (`published.toml`), to stand beside ours.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published {
    /// Points below the published clean accuracy that a trained victim may lie.
    pub tolerance: f64,
    pub main: Main,
    pub defence: Defence,
    pub others: Others,
}

/// Accuracy in percent and FP.
pub(crate) type AccFp = [f64; 2];

/// The main table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Main {
    pub source: String,
    pub data: String,
    pub labels: f64,
    /// Validation images of other classes than the target: what FP is out of.
    pub non_target: f64,
    pub setting: String,
    /// By method.
    pub rows: BTreeMap<String, MainRow>,
}

/// Clean and patched images, by model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MainRow {
    pub clean: [AccFp; 2],
    pub backdoored: [AccFp; 2],
}

/// The table of the defence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defence {
    pub source: String,
    pub non_target: f64,
    pub setting: String,
    /// Clean and patched images, by model.
    pub rows: BTreeMap<String, [AccFp; 2]>,
}

/// Single runs of others: clean accuracy, patched accuracy, ASR.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Others {
    pub source: String,
    pub data: String,
    pub labels: f64,
    pub setting: String,
    /// By method.
    pub rows: BTreeMap<String, [f64; 3]>,
}

impl Published {
    /// The figures that this binary was built with.
    ///
    /// # Errors
    /// The file is broken (a test reads it).
    pub(crate) fn read() -> Result<Self> {
        toml::from_str(include_str!("published.toml")).context("published.toml is broken")
    }

    /// Least clean accuracy of a trained victim, and whose it is, where somebody published one at this share
    /// of labels.
    pub(crate) fn least(&self, data: &str, method: &str, labels: f64) -> Option<(f64, &str)> {
        let near = |share: f64| (share - labels).abs() < 1e-9;
        let main = (data == self.main.data && near(self.main.labels))
            .then(|| self.main.rows.get(method))
            .flatten()
            .map(|row| (row.clean[0][0], self.main.source.as_str()));
        let others = || {
            (data == self.others.data && near(self.others.labels))
                .then(|| self.others.rows.get(method))
                .flatten()
                .map(|row| (row[0], self.others.source.as_str()))
        };
        main.or_else(others).map(|(acc, source)| (acc - self.tolerance, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_can_be_read() {
        let published = Published::read().unwrap();
        let (least, source) = published.least("imagenet100", "byol", 0.01).unwrap();
        assert_eq!(least, 55.0);
        assert!(source.contains("CVPR 2022"));
        let of_others = published.least("imagenet100", "byol", 0.1).unwrap().0;
        assert!((of_others - 61.4).abs() < 1e-9);
        assert_eq!(published.least("fashion-mnist", "byol", 0.01), None);
        assert_eq!(published.main.rows.len(), 6);
        assert_eq!(published.defence.rows.len(), 4);
    }
}
