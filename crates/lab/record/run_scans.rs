//! What scans say of images and encoders: `scan.json`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use ssl_backdoor_defend::ModelId;
use ssl_backdoor_scan::{
    AtK, EncoderFindings, Findings, NullScore, Nulls, PValue, ScanError, precision_and_recall,
};

use super::versioned;

/// How many of the first images precision and recall are given of.
const KS: [usize; 6] = [5, 10, 20, 50, 100, 500];

/// The scans of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunScans {
    /// Version of the file's form.
    #[serde(default = "versioned::first")]
    pub schema: u32,
    /// Of the poisoned training images; none if nothing can be said of them.
    pub data: Option<DataScan>,
    /// Why nothing can be said of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_refused: Option<String>,
    /// Of the encoders, by model.
    pub encoders: BTreeMap<ModelId, EncoderScan>,
}

impl RunScans {
    /// Reads a `scan.json` of a run.
    ///
    /// # Errors
    /// It is absent or broken, or its form is that of a later version.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        versioned::read(path)
    }
}

/// What PatchSearch says of a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataScan {
    /// How many images there are.
    pub images: usize,
    /// How many of them it suspects.
    pub suspected: usize,
    /// Its strongest finding, in words.
    pub strongest: Option<String>,
    /// What else was measured.
    pub figures: BTreeMap<String, f64>,
    /// How right it is, where that is known.
    pub truth: Option<DataTruth>,
}

/// How right a scan of a set is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DataTruth {
    /// Poisoned images of the set.
    pub poisoned: usize,
    /// Poisoned ones among the suspected.
    pub suspected: usize,
    /// Of the first images of the ranking.
    pub ranking: Vec<AtK>,
    /// Of the images that the strongest patches are from.
    pub patches: Vec<AtK>,
}

impl DataScan {
    /// What `findings` say of `images` images, some of them `poisoned`, where that is known.
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

/// What the scans say of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EncoderScan {
    /// By scan.
    pub scans: BTreeMap<String, ScanScore>,
    /// p-value of all scans together; none without nulls.
    pub p_value: Option<PValue>,
    /// Why a scan has nothing to say.
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
    /// Where it lies among those of clean encoders; none without nulls.
    pub p_value: Option<PValue>,
    /// What else was measured.
    pub figures: BTreeMap<String, f64>,
    /// What was reconstructed, in words, the strongest first.
    pub evidence: Vec<String>,
    /// What a reader must know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl EncoderScan {
    /// What was `found`, whose scores are `own`, among `nulls`.
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
