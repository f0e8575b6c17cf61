//! A scan judges and changes nothing: whether an encoder is backdoored, which images of a set are poisoned, and how
//! often such a verdict is wrong.

use image::RgbImage;
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_model::Encoder;

use crate::DefendError;

/// What is scanned.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// An encoder, by what it makes of images that the scan may show it.
    Encoder {
        /// The encoder, in evaluation mode.
        encoder: &'a Encoder,
        /// Images that are prepared for it.
        images: &'a SampleSet,
    },
    /// A training set, by the features of an encoder that was trained on it.
    Set {
        /// The images, as they are stored.
        images: &'a SampleSet,
        /// The encoder, in evaluation mode.
        encoder: &'a Encoder,
    },
}

/// A scan of an encoder or of a training set. It trains nothing and changes nothing; what follows from its findings, for
/// example which images a filter removes, is up to a [`Defence`](crate::Defence).
pub trait Scan {
    /// What it is called in tables.
    fn name(&self) -> &'static str;

    /// Judges `subject`. The same subject and `seed` give the same findings.
    ///
    /// # Errors
    /// The scan is of the other kind of subject, or an image cannot be read.
    fn scan(&self, subject: Subject<'_>, seed: u64) -> Result<Findings, DefendError>;
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Scores, the most suspicious first.
    pub scores: Vec<Score>,
    /// What a person can look at, the strongest first.
    pub evidence: Vec<Evidence>,
    /// What follows from the scores.
    pub verdict: Verdict,
}

/// How suspicious something is; larger is more suspicious. Only the scores of one scan compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// What it is of.
    pub of: Scored,
    /// The score.
    pub value: f64,
}

/// What a score is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scored {
    /// The whole encoder or set.
    Subject,
    /// A training image, by its id.
    Image(u64),
    /// A class, or a cluster where there are no labels.
    Group(u32),
}

/// What a person can look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What it shows, in a sentence.
    pub caption: String,
    /// The training image that it is from, if it is from one.
    pub image: Option<u64>,
    /// The picture: an image, a patch cut out of one, or a trigger that was reconstructed.
    pub picture: RgbImage,
    /// Where in the image a patch was cut out.
    pub patch: Option<Patch>,
}

/// A rectangle of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// What follows from the scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Is the encoder backdoored, the set poisoned?
    pub positive: bool,
    /// The training images that it accuses, ascending; empty for a scan of encoders.
    pub images: Vec<u64>,
    /// Score from which on something is accused.
    pub threshold: f64,
    /// How often a verdict by this threshold is wrong.
    pub errors: ErrorRate,
}

/// How often verdicts by one threshold are wrong, as measured where the truth is known.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorRate {
    /// Share of clean subjects (of clean images, for a scan of images) that are accused.
    pub false_alarms: Rate,
    /// Share of backdoored subjects (of poisoned images) that are not; none where it was not measured.
    pub misses: Option<Rate>,
    /// What it was measured on, in words.
    pub measured_on: String,
}

/// A share with what it is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: usize,
    /// Out of how many.
    pub of: usize,
}

impl Rate {
    /// The share, 0 to 1; none of nothing.
    pub fn share(self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }
}
