//! Both scans of encoders, one after the other, and their scores as a null score.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_model::{Encoder, EncoderHeader};

use crate::invert::drawn;
use crate::{
    Cleanse, CleanseConfig, Decree, DecreeConfig, Findings, NULL_SCHEMA, NullScore, NullTraining,
    Scan, ScanError, Setting, Subject,
};

/// The scans of encoders with their settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderScans {
    /// Settings of DECREE.
    pub decree: DecreeConfig,
    /// Settings of SSL-Cleanse.
    pub cleanse: CleanseConfig,
}

/// The findings of the scans on an encoder.
#[derive(Debug)]
pub struct EncoderFindings {
    /// The findings of each scan that had a result, by its name; empty for a constant encoder.
    pub found: Vec<(&'static str, Findings)>,
    /// Why the other scans had none.
    pub refused: Vec<ScanError>,
}

impl EncoderScans {
    /// What these scans cannot see, in sentences.
    pub const BLIND: &str = "The scans look for triggers in the pixels: a patch or a picture that pulls features \
        together. They do not detect a backdoor that responds to the content of an image or that does not pull \
        features together, and often miss frequency triggers. A clean encoder may have a small trigger too: the \
        p-value tells how many have.";

    /// Checks every value.
    ///
    /// # Errors
    /// It names the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), OutOfRange> {
        self.decree.check().map_err(|e| e.within("decree"))?;
        self.cleanse.check().map_err(|e| e.within("cleanse"))
    }

    /// Checks that `images` images are enough for both scans.
    ///
    /// # Errors
    /// [`ScanError::TooFew`].
    pub fn check_count(images: usize) -> Result<(), ScanError> {
        Decree::check_count(images)?;
        Cleanse::check_count(images)
    }

    /// Scans `encoder`, in evaluation mode, with `images` that are prepared for it: squares of one size.
    ///
    /// # Errors
    /// There are too few images or one cannot be read, or a setting is out of range.
    pub fn scan(
        &self,
        encoder: &Encoder,
        images: &SampleSet,
        setting: &Setting<'_>,
    ) -> Result<EncoderFindings, ScanError> {
        let subject = Subject::Encoder { encoder, images };
        let decree = Decree { config: self.decree.clone() };
        let cleanse = Cleanse { config: self.cleanse.clone() };
        let (mut found, mut refused) = (Vec::new(), Vec::new());
        for scan in [&decree as &dyn Scan, &cleanse] {
            match scan.scan(subject, setting) {
                Ok(findings) => found.push((scan.name(), findings)),
                // The other scan may have a result.
                Err(error) if error.says_nothing() => refused.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(EncoderFindings { found, refused })
    }

    /// Hash of the pixels of those of `images` that are shown to encoders under `seed`.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn shown(&self, images: &SampleSet, seed: u64) -> Result<String, ScanError> {
        let most = self.decree.images.max(self.cleanse.images);
        let mut hasher = blake3::Hasher::new();
        for position in drawn(images.len(), most, seed) {
            let image = images.get(position)?.image;
            hasher.update(&image.width().to_le_bytes());
            hasher.update(image.as_raw());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The settings of each scan, by its name.
    fn settings(&self) -> BTreeMap<String, Value> {
        let (decree, cleanse) = (Decree::default().name(), Cleanse::default().name());
        let value = |settings: serde_json::Result<Value>| settings.unwrap_or_default();
        [
            (decree.to_owned(), value(serde_json::to_value(&self.decree))),
            (cleanse.to_owned(), value(serde_json::to_value(&self.cleanse))),
        ]
        .into()
    }

    /// A null score without scores yet: for an encoder with `header` whose file has this `hash`, scanned under `seed`
    /// on images with the hash `shown`.
    pub fn expected(
        &self,
        header: &EncoderHeader,
        (hash, seed): (String, u64),
        shown: &str,
        training: impl Into<Option<NullTraining>>,
    ) -> NullScore {
        NullScore {
            schema: NULL_SCHEMA,
            encoder: header.encoder,
            size: header.preprocessing.size,
            settings: self.settings(),
            seed,
            images: shown.to_owned(),
            training: training.into(),
            hash,
            scores: BTreeMap::new(),
        }
    }
}

impl EncoderFindings {
    /// Returns these findings if a scan had a result.
    ///
    /// # Errors
    /// The reason why no scan had a result.
    pub fn any(mut self) -> Result<Self, ScanError> {
        match self.refused.pop() {
            Some(error) if self.found.is_empty() => Err(error),
            last => {
                self.refused.extend(last);
                Ok(self)
            }
        }
    }

    /// The score of each scan, by its name.
    pub fn scores(&self) -> BTreeMap<String, f64> {
        let score = |(name, findings): &(&'static str, Findings)| {
            Some(((*name).to_owned(), findings.of_subject()?))
        };
        self.found.iter().filter_map(score).collect()
    }
}
