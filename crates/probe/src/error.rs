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
