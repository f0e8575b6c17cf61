//! Errors of the probes.

use std::path::PathBuf;

use ssl_backdoor_data::DataError;
use ssl_backdoor_fields::OutOfRange;

/// An error of this crate. Field names are those of [`ProbeConfig`](crate::ProbeConfig).
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A field of the config has a value out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// A class has no labelled image.
    #[error(
        "labels = {labels}: class {class} has {images} training images, and none of them has a label: {remedy}"
    )]
    ClassWithoutLabel {
        /// The share of each class that is labelled, or the list.
        labels: String,
        /// The class.
        class: String,
        /// Its training images.
        images: usize,
        /// How to fix it.
        remedy: String,
    },
    /// At least as many neighbours as labelled images: all images would vote, near or not.
    #[error(
        "k = {k} needs more than {k} labelled images, but there are {labelled}: use a smaller k or more labels"
    )]
    Neighbours {
        /// The requested number of neighbours.
        k: usize,
        /// Labelled images.
        labelled: usize,
    },
    /// A set that must not be empty has no images.
    #[error("there are no {what}")]
    Empty {
        /// Which images are missing.
        what: &'static str,
    },
    /// Two counts that must be equal differ.
    #[error("{found} {what}, expected {expected}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A row of the features does not exist.
    #[error("row {row} of {rows} does not exist")]
    Row {
        /// Its position, from 0.
        row: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// A label is not the number of a class.
    #[error("image {image} has label {label}: classes are 0 to {}", classes.saturating_sub(1))]
    Label {
        /// Position of the image in its set.
        image: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// The loss of a fine-tuning is no longer finite.
    #[error(
        "the loss of the fine-tuning is {loss} in epoch {epoch} (learning rate {lr}): lower fine_tune.lr"
    )]
    Diverged {
        /// The loss.
        loss: f32,
        /// The epoch, from 0.
        epoch: usize,
        /// The learning rate of the step.
        lr: f64,
    },
    /// The encoder does not have the feature maps that the probe reads.
    #[error("the probe needs five feature maps, as a ResNet has them, but the encoder has none")]
    NoMaps,
    /// An encoder returned a feature value that is not finite.
    #[error("feature {index} of image {image} is {value}: the encoder is broken")]
    NotFinite {
        /// Position of the image in its set.
        image: usize,
        /// Position of the value in the feature.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Features cannot be written to a file.
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

impl ProbeError {
    /// The field of [`ProbeConfig`](crate::ProbeConfig) that the error is about; the message begins with it. None if
    /// it is about anything else, such as a field of the [data set](Self::Data).
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Range(range) => Some(&range.field),
            Self::ClassWithoutLabel { .. } => Some("labels"),
            Self::Neighbours { .. } => Some("k"),
            _ => None,
        }
    }
}

/// The reason is part of the message, so it is not the `Error::source`.
impl From<rayon::ThreadPoolBuildError> for ProbeError {
    fn from(reason: rayon::ThreadPoolBuildError) -> Self {
        Self::Thread(reason)
    }
}
