//! Null scores: the scores of a scan for encoders that are known to be clean. They determine the p-value of a score.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ssl_backdoor_files as files;
use ssl_backdoor_model::EncoderConfig;

use crate::ScanError;

/// Version of the file format.
pub const NULL_SCHEMA: u32 = 1;

/// The scores of the scans for one encoder.
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
    /// Seed of the scans.
    pub seed: u64,
    /// Hash of the images that the encoder was shown.
    pub images: String,
    /// How the encoder was trained, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<NullTraining>,
    /// Hash of the encoder file, so that no encoder is its own null.
    pub hash: String,
    /// The score of each scan, by its name; larger is more suspicious.
    pub scores: BTreeMap<String, f64>,
}

/// How a clean encoder was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NullTraining {
    /// Its method, for people.
    pub method: String,
    /// Hash of all that decides it but the seed: the training images and the settings.
    pub settings: String,
    /// Its seed.
    pub seed: u64,
}

/// A p-value by rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PValue {
    /// (1 + nulls that score as high or higher) / (1 + nulls).
    pub p: f64,
    /// How many nulls there are. No p-value is below 1 / (1 + nulls).
    pub nulls: usize,
}

impl PValue {
    /// The p-value of a score that `above` of the `nulls` reach; `None` without nulls.
    fn of(above: usize, nulls: usize) -> Option<Self> {
        (nulls > 0).then(|| Self { p: (1 + above) as f64 / (1 + nulls) as f64, nulls })
    }

    /// The smallest p-value that this many null scores allow.
    pub fn least(&self) -> f64 {
        1.0 / (1 + self.nulls) as f64
    }
}

/// The null scores of a folder for the same kind of encoder and the same settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Nulls {
    /// The scores.
    pub scores: Vec<NullScore>,
    /// Files of the folder that cannot be used, each with the reason.
    pub left_out: Vec<(PathBuf, String)>,
}

impl NullScore {
    /// The name of its file, by the seed of the training or, if that is unknown, by the hash of the encoder.
    pub fn file_name(&self) -> String {
        match &self.training {
            Some(training) => format!("seed-{}.json", training.seed),
            None => format!("{}.json", self.hash.chars().take(16).collect::<String>()),
        }
    }

    /// Writes it into `folder`, which must exist, and returns the path of the file.
    ///
    /// # Errors
    /// [`ScanError::Null`]: it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, ScanError> {
        let path = folder.join(self.file_name());
        let wrong = |reason: String| ScanError::Null { path: path.clone(), reason };
        let mut text = serde_json::to_string_pretty(self).map_err(|e| wrong(e.to_string()))?;
        text.push('\n');
        files::write(&path, text.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        Ok(path)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ScanError::Null`]: it cannot be read, or is not a null score.
    pub fn read(path: &Path) -> Result<Self, ScanError> {
        let wrong = |reason: String| ScanError::Null { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let score: Self = serde_json::from_str(&text)
            .map_err(|e| wrong(format!("it is not a null score: {e}")))?;
        if score.schema != NULL_SCHEMA {
            let reason = format!("its schema is {}, expected {NULL_SCHEMA}", score.schema);
            return Err(wrong(reason));
        }
        Ok(score)
    }

    /// Why `other` cannot be a null score for this one, if it cannot.
    pub fn differs(&self, other: &Self) -> Option<String> {
        if other.encoder != self.encoder {
            return Some("it is of another kind of encoder".into());
        }
        if other.size != self.size {
            return Some(format!("it is of images of {} px, not {}", other.size, self.size));
        }
        if other.settings != self.settings || other.seed != self.seed {
            return Some("it was made with other scan settings or another scan seed".into());
        }
        if other.images != self.images {
            return Some("its encoder was scanned on other images".into());
        }
        let trainings = self.training.as_ref().zip(other.training.as_ref());
        if trainings.is_some_and(|(own, other)| own.settings != other.settings) {
            return Some("its encoder was trained on other images or with other settings".into());
        }
        (other.hash == self.hash).then(|| "it belongs to the scanned encoder itself".into())
    }
}

impl Nulls {
    /// Reads the null scores for the encoder of `own` from the `.json` files of `folder`.
    ///
    /// # Errors
    /// [`ScanError::Null`]: the folder cannot be read, a file in it is not a null score, or the training of `own` is
    /// unknown and the encoders of the others were trained in different ways, so that they have no common distribution.
    pub fn read(folder: &Path, own: &NullScore) -> Result<Self, ScanError> {
        let mut nulls = Self::default();
        for (path, score) in Self::all(folder)? {
            let twice = nulls.scores.iter().any(|one| one.hash == score.hash);
            let twice = twice.then(|| "another file belongs to the same encoder".to_owned());
            match own.differs(&score).or(twice) {
                Some(reason) => nulls.left_out.push((path, reason)),
                None => nulls.scores.push(score),
            }
        }
        if own.training.is_none() && nulls.trainings().len() > 1 {
            let methods: Vec<&str> = nulls.methods().into_iter().collect();
            let reason = format!(
                "its encoders were trained in {} different ways (by {}): a p-value needs clean encoders of one training, so \
                 keep those of each in a folder of their own",
                nulls.trainings().len(),
                methods.join(", ")
            );
            return Err(ScanError::Null { path: folder.into(), reason });
        }
        Ok(nulls)
    }

    /// Reads the scores of all `.json` files of `folder`, with their paths, sorted by path.
    ///
    /// # Errors
    /// [`ScanError::Null`]: the folder cannot be read, or a file in it is not a null score.
    pub fn all(folder: &Path) -> Result<Vec<(PathBuf, NullScore)>, ScanError> {
        let in_folder =
            |e: std::io::Error| ScanError::Null { path: folder.into(), reason: e.to_string() };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(in_folder)? {
            let path = entry.map_err(in_folder)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        let read = |path: PathBuf| NullScore::read(&path).map(|score| (path, score));
        paths.into_iter().map(read).collect()
    }

    /// The p-value of `value` among the null scores of `scan`; `None` without null scores.
    pub fn p_value(&self, scan: &str, value: f64) -> Option<PValue> {
        let all: Vec<f64> =
            self.scores.iter().filter_map(|one| one.scores.get(scan).copied()).collect();
        PValue::of(all.iter().filter(|null| **null >= value).count(), all.len())
    }

    /// The p-value of all scans of `own` together, among the nulls with a score of each; `None` without such nulls.
    /// Each encoder, `own` included, is ranked among all by each scan. The smaller the product of its ranks (Fisher's
    /// statistic), the more suspicious it is; the p-value is the rank by this product. It treats all encoders alike,
    /// so it is exact, and it can be as small as for one scan. Bonferroni's would be twice as large for two scans.
    pub fn together(&self, own: &NullScore) -> Option<PValue> {
        let scans: Vec<&String> = own.scores.keys().collect();
        let row = |one: &NullScore| -> Option<Vec<f64>> {
            scans.iter().map(|scan| one.scores.get(*scan).copied()).collect()
        };
        let mut rows = vec![row(own)?];
        rows.extend(self.scores.iter().filter_map(row));
        let statistic = |one: &Vec<f64>| -> f64 {
            let rank = |scan: usize| rows.iter().filter(|row| row[scan] >= one[scan]).count();
            (0..scans.len()).map(|scan| (rank(scan) as f64).ln()).sum()
        };
        let all: Vec<f64> = rows.iter().map(statistic).collect();
        let (own, nulls) = all.split_first()?;
        // Sums of the same logarithms in another order count as equal.
        let above = nulls.iter().filter(|null| **null <= own + 1e-9).count();
        PValue::of(above, nulls.len()).filter(|_| !scans.is_empty())
    }

    /// The methods with which the encoders were trained, as far as known.
    pub fn methods(&self) -> BTreeSet<&str> {
        self.known().map(|training| training.method.as_str()).collect()
    }

    /// The hashes of the trainings of the encoders, as far as known.
    fn trainings(&self) -> BTreeSet<&str> {
        self.known().map(|training| training.settings.as_str()).collect()
    }

    fn known(&self) -> impl Iterator<Item = &NullTraining> {
        self.scores.iter().filter_map(|one| one.training.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use serde_json::json;
    use ssl_backdoor_model::Stem;

    use super::*;

    fn score(hash: &str, value: f64) -> NullScore {
        NullScore {
            schema: NULL_SCHEMA,
            encoder: EncoderConfig::Resnet18 { width: 4, stem: Stem::Small },
            size: 32,
            settings: [("decree".into(), json!({ "rounds": 3 }))].into(),
            seed: 1,
            images: "images".into(),
            training: None,
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
        NullScore { seed: 2, ..score("seed", 1.0) }.write(folder.path()).unwrap();
        NullScore { images: "others".into(), ..score("images", 1.0) }.write(folder.path()).unwrap();
        let training = |settings: &str, seed| {
            Some(NullTraining { method: "byol".into(), settings: settings.into(), seed })
        };
        let byol = NullScore { training: training("a", 7), ..score("byol", 1.0) };
        assert_eq!(byol.write(folder.path()).unwrap(), folder.path().join("seed-7.json"));
        std::fs::write(folder.path().join("notes.txt"), "no score").unwrap();
        let own = NullScore { training: training("b", 1), ..score("mine", 0.7) };
        own.write(folder.path()).unwrap();
        let nulls = Nulls::read(folder.path(), &own).unwrap();
        assert_eq!((nulls.scores.len(), nulls.left_out.len()), (9, 7));
        // 0.7 and 0.8 are as high or higher.
        assert_eq!(nulls.p_value("decree", 0.7), Some(PValue { p: 0.3, nulls: 9 }));
        assert_eq!(nulls.p_value("decree", 9.0), Some(PValue { p: 0.1, nulls: 9 }));
        assert_eq!(nulls.p_value("decree", -1.0), Some(PValue { p: 1.0, nulls: 9 }));
        assert_eq!(nulls.p_value("ssl-cleanse", 0.5), None);
        for broken in ["{", "{\"schema\": 1}", "[]"] {
            std::fs::write(folder.path().join("broken.json"), broken).unwrap();
            let message = Nulls::read(folder.path(), &own).unwrap_err().to_string();
            assert!(message.contains("broken.json: it is not a null score"), "{message}");
        }
        assert!(Nulls::read(&folder.path().join("absent"), &own).is_err());
    }

    #[test]
    fn encoders_of_different_trainings_are_no_nulls_of_an_unknown_one() {
        let folder = tempfile::tempdir().unwrap();
        for (method, seed) in [("moco-v2", 1), ("moco-v2", 2), ("msf", 3)] {
            let training =
                NullTraining { method: method.into(), settings: format!("of {method}"), seed };
            NullScore { training: Some(training), ..score(&format!("hash{seed}"), 0.5) }
                .write(folder.path())
                .unwrap();
        }
        let unknown = score("mine", 0.7);
        let message = Nulls::read(folder.path(), &unknown).unwrap_err().to_string();
        assert!(message.contains("trained in 2 different ways (by moco-v2, msf)"), "{message}");
        // A known training selects its own.
        let training = NullTraining { method: "msf".into(), settings: "of msf".into(), seed: 9 };
        let known = NullScore { training: Some(training), ..unknown.clone() };
        assert_eq!(Nulls::read(folder.path(), &known).unwrap().scores.len(), 1);
        std::fs::remove_file(folder.path().join("seed-3.json")).unwrap();
        assert_eq!(Nulls::read(folder.path(), &unknown).unwrap().scores.len(), 2);
    }

    /// Two scans: a high score by either one counts, and no p-value is below 1 / (1 + nulls).
    #[test]
    fn together_is_the_rank_of_the_product_of_ranks() {
        let both = |a: f64, b: f64| NullScore {
            scores: [("decree".into(), a), ("ssl-cleanse".into(), b)].into(),
            ..score("x", 0.0)
        };
        let scores: Vec<NullScore> = (0..9).map(|i| both(f64::from(i), f64::from(8 - i))).collect();
        let nulls = Nulls { scores, left_out: Vec::new() };
        let p = |a, b| nulls.together(&both(a, b)).unwrap();
        assert_eq!(p(9.0, 9.0), PValue { p: 0.1, nulls: 9 });
        assert_eq!(p(9.0, 9.0).least(), 0.1);
        assert_eq!(p(-1.0, -1.0).p, 1.0);
        // The ranks of (9, −1) are 1 and 10. Those of null i are 10 − i and i + 1, so that null 0 ties with it.
        assert!(p(9.0, -1.0).p > 0.1 && p(9.0, 4.0).p < p(4.0, 4.0).p);
        // A null that lacks a score does not count. For a single scan, the result is the plain p-value.
        let mut fewer = nulls.clone();
        fewer.scores[0].scores.remove("decree");
        assert_eq!(fewer.together(&both(9.0, 9.0)).unwrap().nulls, 8);
        let alone = score("x", 4.0);
        assert_eq!(nulls.together(&alone), nulls.p_value("decree", 4.0));
        assert_eq!(Nulls::default().together(&alone), None);
    }

    /// Among ten encoders whose scores have the same distribution, p ≤ 0.1 has a probability of at most 0.1.
    #[test]
    fn of_encoders_that_are_alike_together_is_uniform_or_larger() {
        let mut rng = ssl_backdoor_rng::keyed(3, crate::purpose::TRIGGER_START, 9, 0, 0);
        let (mut small, rounds) = (0, 2000);
        for _ in 0..rounds {
            let mut draw = || {
                let scores = ["a", "b"].map(|scan| (scan.to_owned(), rng.random_range(0.0..1.0)));
                NullScore { scores: scores.into(), ..score("x", 0.0) }
            };
            let own = draw();
            let nulls = Nulls { scores: (0..9).map(|_| draw()).collect(), left_out: Vec::new() };
            small += usize::from(nulls.together(&own).unwrap().p <= 0.1);
        }
        // A tenth, minus what ties take away; three standard deviations above it is 0.12.
        let share = small as f64 / f64::from(rounds);
        assert!(share < 0.12 && share > 0.05, "{share}");
    }
}
