//! What can go wrong in a probe.

use std::path::PathBuf;

use ssl_backdoor_data::DataError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A key of the config has a value out of range.
    #[error("{key} = {value} is out of range: {allowed}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A class has no labelled image.
    #[error(
        "probe.labels = {labels}: class {class} has {images} training images and none of them gets a label: {remedy}"
    )]
    ClassWithoutLabel {
        /// The share of each class that is labelled, or the list.
        labels: String,
        /// The class.
        class: String,
        /// Its training images.
        images: usize,
        /// What would do.
        remedy: String,
    },
    /// As many neighbours as labelled images, or more: all of them would vote, whatever is near.
    #[error(
        "probe.k = {k} needs more than {k} labelled images, but there are {labelled}: use a smaller k or more \
         labels (probe.labels)"
    )]
    Neighbours {
        /// How many neighbours were to vote.
        k: usize,
        /// Labelled images.
        labelled: usize,
    },
    /// A set without images, where there must be some.
    #[error("there are no {what}")]
    Empty {
        /// Which images are missing.
        what: &'static str,
    },
    /// Things that belong together differ in number.
    #[error("{found} {what}, expected {expected}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A row of features that does not exist.
    #[error("row {row} of {rows} does not exist")]
    Row {
        /// Its position, from 0.
        row: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// A label that names no class.
    #[error("image {image} has label {label}: classes are 0 to {}", classes.saturating_sub(1))]
    Label {
        /// Position of the image in its set.
        image: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// Features that the encoder does not have.
    #[error("the probe reads five feature maps, as a ResNet has them, and the encoder has none")]
    NoMaps,
    /// An encoder gave a feature that is no number.
    #[error("feature {index} of image {image} is {value}: the encoder is broken")]
    NotFinite {
        /// Position of the image in its set.
        image: usize,
        /// Position in the feature.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Features that do not fit in a file.
    #[error("cannot write features: {0}")]
    Features(String),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(rayon::ThreadPoolBuildError),
    /// Images could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file could not be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// The reason is a part of the message, so it is no `Error::source`.
impl From<rayon::ThreadPoolBuildError> for ProbeError {
    fn from(reason: rayon::ThreadPoolBuildError) -> Self {
        Self::Thread(reason)
    }
}
