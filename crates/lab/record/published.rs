//! Published figures of the paper and of others (`published.toml`), for comparison with ours.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use ssl_backdoor_probe::Protocol;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published {
    /// Points by which a trained victim may be below the published clean accuracy.
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
    pub size: u32,
    pub labels: f64,
    pub protocol: Protocol,
    /// Methods whose row is of an unknown probe.
    pub unknown_probe: Vec<String>,
    /// Validation images of other classes than the target: the largest possible FP.
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
    pub size: u32,
    pub labels: f64,
    pub protocol: Protocol,
    pub setting: String,
    /// By method.
    pub rows: BTreeMap<String, [f64; 3]>,
}

impl Published {
    /// The figures built into this binary.
    ///
    /// # Errors
    /// The file is broken (a test reads it).
    pub(crate) fn read() -> Result<Self> {
        toml::from_str(include_str!("published.toml")).context("published.toml is broken")
    }

    /// Least clean accuracy of a trained victim and its source, if one was published for the same `probe`.
    pub(crate) fn least(&self, method: &str, probe: &Measured<'_>) -> Option<(f64, &str)> {
        let Self { main, others, tolerance, .. } = self;
        let near = |labels: f64| (labels - probe.labels).abs() < 1e-9;
        let same = |data: &str, size, labels, protocol| {
            (data, size, protocol) == (probe.data, probe.size, probe.protocol) && near(labels)
        };
        let known = !main.unknown_probe.iter().any(|of| of == method);
        let of_main = (known && same(&main.data, main.size, main.labels, main.protocol))
            .then(|| main.rows.get(method))
            .flatten()
            .map(|row| (row.clean[0][0], main.source.as_str()));
        let of_others = || {
            same(&others.data, others.size, others.labels, others.protocol)
                .then(|| others.rows.get(method))
                .flatten()
                .map(|row| (row[0], others.source.as_str()))
        };
        of_main.or_else(of_others).map(|(acc, source)| (acc - tolerance, source))
    }
}

/// The conditions of an accuracy: figures are comparable only if all of them are the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'a> {
    /// Kind of the data set.
    pub data: &'a str,
    /// Side of its images in pixels.
    pub size: u32,
    /// Share of labels.
    pub labels: f64,
    /// Protocol of the linear probe.
    pub protocol: Protocol,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_can_be_read() {
        let published = Published::read().unwrap();
        assert_eq!(published.main.rows.len(), 6);
        assert_eq!(published.defence.rows.len(), 4);
        let unknown = &published.main.unknown_probe;
        assert!(unknown.iter().all(|method| published.main.rows.contains_key(method)));
    }

    #[test]
    fn review_1_05_figures_of_another_probe_or_set_do_not_count() {
        let published = Published::read().unwrap();
        let paper =
            Measured { data: "imagenet100", size: 224, labels: 0.01, protocol: Protocol::Paper };
        let (least, source) = published.least("byol", &paper).unwrap();
        assert_eq!(least, 55.0);
        assert!(source.contains("CVPR 2022"));
        let tenth = Measured { labels: 0.1, ..paper };
        let of_others = published.least("byol", &tenth).unwrap().0;
        assert!((of_others - 61.4).abs() < 1e-9);
        for other in [
            Measured { protocol: Protocol::Unified, ..paper },
            Measured { protocol: Protocol::Unified, ..tenth },
            Measured { data: "fashion-mnist", ..paper },
            Measured { size: 64, ..paper },
            Measured { labels: 0.02, ..paper },
        ] {
            assert_eq!(published.least("byol", &other), None, "{other:?}");
        }
        assert_eq!(published.least("simclr", &paper), None);
        // The probe of the paper's MAE is unknown.
        assert_eq!(published.least("mae", &paper), None);
    }
}
