//! The trait of a scan, which judges a subject without changing it.

use burn::tensor::Device;
use ssl_backdoor_data::{Normalization, SampleSet, Watch};
use ssl_backdoor_model::Encoder;

use crate::{Findings, ScanError};

/// What is scanned.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// An encoder, judged by its features of images that the scan may show it.
    Encoder {
        /// The encoder, in evaluation mode.
        encoder: &'a Encoder,
        /// Images that are prepared for it: squares of one size.
        images: &'a SampleSet,
    },
    /// A set of images, judged by the features of an encoder, ideally one that was trained on it.
    Set {
        /// The images, prepared for the encoder: squares of one size.
        images: &'a SampleSet,
        /// The encoder, in evaluation mode.
        encoder: &'a Encoder,
    },
}

/// The environment of a scan: its device, seed, normalisation and progress.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Where it computes: the device of the encoder.
    pub device: &'a Device,
    /// Seed of its random draws.
    pub seed: u64,
    /// How the encoder's images are normalised.
    pub normalization: Normalization,
    /// Receives the progress.
    pub watch: &'a Watch<'a>,
}

/// A scan of an encoder or of a set of images. It changes neither; what follows from its findings is up to the caller.
pub trait Scan {
    /// Its name in tables and files.
    fn name(&self) -> &'static str;

    /// Judges `subject`. The same subject and seed give the same findings.
    ///
    /// # Errors
    /// The scan is for the other kind of subject; there are too few images, or their features are all alike; an image
    /// cannot be read; a value of the scan's config is out of range.
    fn scan(&self, subject: Subject<'_>, setting: &Setting<'_>) -> Result<Findings, ScanError>;
}
