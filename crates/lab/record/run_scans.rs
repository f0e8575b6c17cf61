//! Findings of scans of images and encoders: `scan.json`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use ssl_backdoor_defend::ModelId;
use ssl_backdoor_scan::{
    AtK, EncoderFindings, Findings, NullScore, Nulls, PValue, ScanError, precision_and_recall,
};

use super::versioned;

/// The values of k for precision and recall of the first k images.
const KS: [usize; 6] = [5, 10, 20, 50, 100, 500];

/// The scans of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunScans {
    /// Schema version of the file.
    #[serde(default = "versioned::first")]
    pub schema: u32,
    /// The scan of the poisoned training images; `None` without a result.
    pub data: Option<DataScan>,
    /// Why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_refused: Option<String>,
    /// The scans of the encoders, by model.
    pub encoders: BTreeMap<ModelId, EncoderScan>,
}

impl RunScans {
    /// Reads a `scan.json` of a run.
    ///
    /// # Errors
    /// It is absent or broken, or has a later schema version.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        versioned::read(path)
    }
}

/// The findings of PatchSearch on a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataScan {
    /// Number of images.
    pub images: usize,
    /// Number of suspected images.
    pub suspected: usize,
    /// Its strongest finding, in words.
    pub strongest: Option<String>,
    /// Other measurements.
    pub figures: BTreeMap<String, f64>,
    /// Comparison with the truth, if it is known.
    pub truth: Option<DataTruth>,
}

/// A scan of a set, compared with the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataTruth {
    /// Poisoned images of the set.
    pub poisoned: usize,
    /// Poisoned images among the suspected ones.
    pub suspected: usize,
    /// For the first images of the ranking.
    pub ranking: Vec<AtK>,
    /// For the images with the strongest patches.
    pub patches: Vec<AtK>,
}

impl DataScan {
    /// The `findings` on `images` images, of which these are `poisoned`, if that is known.
    pub(crate) fn of(findings: &Findings, images: usize, poisoned: Option<&HashSet<u64>>) -> Self {
        let patches: Vec<u64> = findings.evidence.iter().filter_map(|one| one.image).collect();
        let truth = poisoned.map(|ids| DataTruth {
            poisoned: ids.len(),
            suspected: findings.accused.iter().filter(|id| ids.contains(id)).count(),
            ranking: precision_and_recall(&findings.ranked_images(), ids, &KS),
            patches: precision_and_recall(&patches, ids, &KS),
        });
        Self {
            images,
            suspected: findings.accused.len(),
            strongest: findings.evidence.first().map(|best| best.caption.clone()),
            figures: findings.figures.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
            truth,
        }
    }
}

/// The findings of the scans on an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EncoderScan {
    /// By scan.
    pub scans: BTreeMap<String, ScanScore>,
    /// p-value of all scans together; `None` without null scores.
    pub p_value: Option<PValue>,
    /// Why a scan has no result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// The scores as a null score.
    pub score: NullScore,
}

/// The score of one scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScanScore {
    /// Larger is more suspicious.
    pub score: f64,
    /// Its p-value among the scores of clean encoders; `None` without null scores.
    pub p_value: Option<PValue>,
    /// Other measurements.
    pub figures: BTreeMap<String, f64>,
    /// The reconstructed triggers in words, the strongest first.
    pub evidence: Vec<String>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl EncoderScan {
    /// The findings `found`, with the scores `own`, compared with `nulls`.
    pub(crate) fn of(found: &EncoderFindings, own: NullScore, nulls: &Nulls) -> Self {
        let scan = |(name, findings): &(&'static str, Findings)| {
            let score = findings.of_subject()?;
            let figures = findings.figures.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
            let score = ScanScore {
                score,
                p_value: nulls.p_value(name, score),
                figures,
                evidence: findings.evidence.iter().map(|one| one.caption.clone()).collect(),
                notes: findings.notes.clone(),
            };
            Some(((*name).to_owned(), score))
        };
        Self {
            scans: found.found.iter().filter_map(scan).collect(),
            p_value: nulls.together(&own),
            refused: found.refused.iter().map(ScanError::to_string).collect(),
            score: own,
        }
    }
}
