//! Names of the files in a run folder.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use ssl_backdoor_defend::ModelId;

use super::images::Images;

/// A file of a run, displayed as its path in the run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Artefact {
    /// The resolved config.
    Config,
    /// The manifest.
    Manifest,
    /// The poisoned images.
    Ledger,
    /// The images that a rule chose.
    Selection,
    /// The size of the trigger and its visibility in views.
    TriggerSize,
    /// The accuracy of a probe on raw pixels.
    Baseline,
    /// The scores.
    Scores,
    /// The findings of the scans.
    Scan,
    /// The strongest trigger that a scan reconstructed for a model, as a picture, by the name of the scan.
    Trigger(ModelId, String),
    /// The feature maps.
    FeatureMaps,
    /// The report.
    ReportHtml,
    /// The report in Markdown.
    ReportMarkdown,
    /// Why the last start of the run failed.
    Failure,
    /// The encoder of a model.
    Encoder(ModelId),
    /// The training images that a search removed before its training.
    Removed(ModelId),
    /// The log of its training.
    Metrics(ModelId),
    /// Its features.
    Features(ModelId, FeaturesOf),
    /// Its linear probe.
    Probe(ModelId),
    /// One of its confusion matrices.
    Confusion(ModelId, Confusion),
}

/// Images whose features are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeaturesOf {
    /// The labelled training images.
    Labelled,
    /// The evaluation images.
    Eval(Images),
}

impl FeaturesOf {
    /// All values.
    pub(crate) const ALL: [Self; 3] =
        [Self::Labelled, Self::Eval(Images::Clean), Self::Eval(Images::Patched)];
}

/// The confusion matrices of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confusion {
    /// The matrix on one kind of images.
    Of(Images),
    /// The file of the paper's code, on both kinds.
    Reference,
}

impl Confusion {
    /// All values.
    pub(crate) const ALL: [Self; 3] =
        [Self::Of(Images::Clean), Self::Of(Images::Patched), Self::Reference];
}

impl Artefact {
    /// The files of the training of `model`.
    pub(crate) fn of_training(model: &ModelId) -> [Self; 2] {
        [Self::Encoder(model.clone()), Self::Metrics(model.clone())]
    }

    /// The features of `model`.
    pub(crate) fn features(model: &ModelId) -> [Self; 3] {
        FeaturesOf::ALL.map(|of| Self::Features(model.clone(), of))
    }
}

/// Removes the scores and the reports in a run folder, as far as they exist.
///
/// # Errors
/// One exists and cannot be removed.
pub(crate) fn withdraw_scores(folder: &Path) -> Result<()> {
    remove_from(folder, &[Artefact::Scores, Artefact::ReportHtml, Artefact::ReportMarkdown])
}

/// Removes `artefacts` from a run folder, as far as they exist.
///
/// # Errors
/// One exists and cannot be removed.
pub(crate) fn remove_from(folder: &Path, artefacts: &[Artefact]) -> Result<()> {
    for artefact in artefacts {
        let path = folder.join(artefact.to_string());
        if path.is_file() {
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

impl fmt::Display for Artefact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config.toml"),
            Self::Manifest => f.write_str("manifest.json"),
            Self::Ledger => f.write_str("poison.csv"),
            Self::Selection => f.write_str("selection.json"),
            Self::TriggerSize => f.write_str("trigger.json"),
            Self::Baseline => f.write_str("floor.json"),
            Self::Scores => f.write_str("scores.json"),
            Self::Scan => f.write_str("scan.json"),
            Self::Trigger(model, scan) => write!(f, "{model}/trigger-{scan}.png"),
            Self::FeatureMaps => f.write_str("maps.json"),
            Self::ReportHtml => f.write_str("report.html"),
            Self::ReportMarkdown => f.write_str("report.md"),
            Self::Failure => f.write_str("error.txt"),
            Self::Encoder(model) => write!(f, "{model}/encoder.safetensors"),
            Self::Removed(model) => write!(f, "{model}/removed.json"),
            Self::Metrics(model) => write!(f, "{model}/metrics.jsonl"),
            Self::Features(model, FeaturesOf::Labelled) => {
                write!(f, "{model}/features/labelled.safetensors")
            }
            Self::Features(model, FeaturesOf::Eval(images)) => {
                write!(f, "{model}/features/{images}.safetensors")
            }
            Self::Probe(model) => write!(f, "{model}/probe.safetensors"),
            Self::Confusion(model, Confusion::Of(images)) => {
                write!(f, "{model}/confusion_{images}.csv")
            }
            Self::Confusion(model, Confusion::Reference) => write!(f, "{model}/conf_matrix.csv"),
        }
    }
}
