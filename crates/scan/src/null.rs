//! Null scores: what a scan says of encoders that are known to be clean. Where a score lies among them is its p-value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ssl_backdoor_files as files;
use ssl_backdoor_model::EncoderConfig;

use crate::ScanError;

/// Version of the files' form.
pub const NULL_SCHEMA: u32 = 1;

/// What the scans say of one encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NullScore {
    /// Version of the file's form, [`NULL_SCHEMA`].
    pub schema: u32,
    /// The kind of encoder.
    pub encoder: EncoderConfig,
    /// Side of its images in pixels.
    pub size: u32,
    /// Settings of each scan, by its name.
    pub settings: BTreeMap<String, Value>,
    /// Hash of the encoder file, so that no encoder is its own null.
    pub hash: String,
    /// The score of each scan, by its name; larger is more suspicious.
    pub scores: BTreeMap<String, f64>,
}

/// A p-value by rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PValue {
    /// (1 + nulls that score as high or higher) / (1 + nulls).
    pub p: f64,
    /// How many nulls there are. No p-value is below 1 / (1 + nulls).
    pub nulls: usize,
}

/// The null scores of a folder that are of the same kind of encoder and the same settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Nulls {
    /// The scores.
    pub scores: Vec<NullScore>,
    /// Files of the folder that are of no use here, each with the reason.
    pub left_out: Vec<(PathBuf, String)>,
}

impl NullScore {
    /// Writes it into `folder`, which exists, as a file that is called by the hash of the encoder; its path.
    ///
    /// # Errors
    /// [`ScanError::Null`]: it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, ScanError> {
        let stem: String = self.hash.chars().take(16).collect();
        let path = folder.join(format!("{stem}.json"));
        let wrong = |reason: String| ScanError::Null { path: path.clone(), reason };
        let mut text = serde_json::to_string_pretty(self).map_err(|e| wrong(e.to_string()))?;
        text.push('\n');
        files::write(&path, text.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        Ok(path)
    }

    /// Why `other` is no null for this one, if it is none.
    fn differs(&self, other: &Self) -> Option<String> {
        if other.encoder != self.encoder {
            return Some("it is of another kind of encoder".into());
        }
        if other.size != self.size {
            return Some(format!("it is of images of {} px, not {}", other.size, self.size));
        }
        if other.settings != self.settings {
            return Some("it was made with other settings of the scans".into());
        }
        (other.hash == self.hash).then(|| "it is of the very encoder that is scanned".into())
    }
}

impl Nulls {
    /// The null scores among the `.json` files of `folder` for the encoder of `own`.
    ///
    /// # Errors
    /// [`ScanError::Null`]: the folder cannot be read, or a file in it is no null score.
    pub fn read(folder: &Path, own: &NullScore) -> Result<Self, ScanError> {
        let wrong = |path: &Path, reason: String| ScanError::Null { path: path.into(), reason };
        let in_folder = |e: std::io::Error| wrong(folder, e.to_string());
        let mut nulls = Self::default();
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(in_folder)? {
            let path = entry.map_err(in_folder)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|e| wrong(&path, e.to_string()))?;
            let score: NullScore = serde_json::from_str(&text)
                .map_err(|e| wrong(&path, format!("it is no null score: {e}")))?;
            if score.schema != NULL_SCHEMA {
                let reason = format!("its schema is {}, expected is {NULL_SCHEMA}", score.schema);
                return Err(wrong(&path, reason));
            }
            let twice = nulls.scores.iter().any(|one| one.hash == score.hash);
            let twice = twice.then(|| "another file is of the same encoder".to_owned());
            match own.differs(&score).or(twice) {
                Some(reason) => nulls.left_out.push((path, reason)),
                None => nulls.scores.push(score),
            }
        }
        Ok(nulls)
    }

    /// Where `value` lies among the nulls of `scan`; none without nulls.
    pub fn p_value(&self, scan: &str, value: f64) -> Option<PValue> {
        let all: Vec<f64> =
            self.scores.iter().filter_map(|one| one.scores.get(scan).copied()).collect();
        let above = all.iter().filter(|null| **null >= value).count();
        let nulls = all.len();
        (nulls > 0).then(|| PValue { p: (1 + above) as f64 / (1 + nulls) as f64, nulls })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use ssl_backdoor_model::Stem;

    use super::*;

    fn score(hash: &str, value: f64) -> NullScore {
        NullScore {
            schema: NULL_SCHEMA,
            encoder: EncoderConfig::Resnet18 { width: 4, stem: Stem::Small },
            size: 32,
            settings: [("decree".into(), json!({ "rounds": 3 }))].into(),
            hash: hash.into(),
            scores: [("decree".into(), value)].into(),
        }
    }

    #[test]
    fn a_p_value_is_the_rank_among_nulls_of_the_same_kind() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..9 {
            score(&format!("hash{i}"), f64::from(i) / 10.0).write(folder.path()).unwrap();
        }
        let other = EncoderConfig::Resnet18 { width: 8, stem: Stem::Small };
        NullScore { encoder: other, ..score("other", 1.0) }.write(folder.path()).unwrap();
        NullScore { size: 28, ..score("small", 1.0) }.write(folder.path()).unwrap();
        NullScore { settings: BTreeMap::new(), ..score("set", 1.0) }.write(folder.path()).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no score").unwrap();
        let own = score("mine", 0.7);
        own.write(folder.path()).unwrap();
        let nulls = Nulls::read(folder.path(), &own).unwrap();
        assert_eq!((nulls.scores.len(), nulls.left_out.len()), (9, 4));
        // 0.7 and 0.8 are as high or higher.
        assert_eq!(nulls.p_value("decree", 0.7), Some(PValue { p: 0.3, nulls: 9 }));
        assert_eq!(nulls.p_value("decree", 9.0), Some(PValue { p: 0.1, nulls: 9 }));
        assert_eq!(nulls.p_value("decree", -1.0), Some(PValue { p: 1.0, nulls: 9 }));
        assert_eq!(nulls.p_value("ssl-cleanse", 0.5), None);
        for broken in ["{", "{\"schema\": 1}", "[]"] {
            std::fs::write(folder.path().join("broken.json"), broken).unwrap();
            let message = Nulls::read(folder.path(), &own).unwrap_err().to_string();
            assert!(message.contains("broken.json: it is no null score"), "{message}");
        }
        assert!(Nulls::read(&folder.path().join("absent"), &own).is_err());
    }
}
