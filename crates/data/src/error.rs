//! Errors of data sets.

use std::path::PathBuf;

use ssl_backdoor_fields::OutOfRange;

/// An error of this crate: it names the file or field, the value, and what is allowed. Fields are those of
/// [`DataConfig`](crate::DataConfig).
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why; a part of the message, so it is not the `Error::source`.
        r#source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why; a part of the message, so it is not the `Error::source`.
        r#source: std::io::Error,
    },
    /// No file of a data set was found.
    #[error("no {name} found; looked for {}. {hint}", list(looked))]
    Missing {
        /// The data set or file.
        name: String,
        /// The paths that were tried.
        looked: Vec<PathBuf>,
        /// What the user can do.
        hint: String,
    },
    /// A field that this data set needs is not set.
    #[error("{field} is not set. {hint}")]
    Unset {
        /// The field.
        field: &'static str,
        /// What the user can do.
        hint: String,
    },
    /// A part of a data set has no images.
    #[error("{field} = {value:?}: {reason}")]
    NoImages {
        /// The field that decides the part.
        field: &'static str,
        /// Its value.
        value: String,
        /// Why it has none, and what the user can do.
        reason: String,
    },
    /// A set has no image at a position.
    #[error("position {position} is not in a set of {len} images")]
    Position {
        /// The position.
        position: usize,
        /// Images in the set.
        len: usize,
    },
    /// A file or folder does not have the expected content.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the value and what is expected.
        reason: String,
    },
    /// A field of the config has a value out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// Images of one batch have different sizes.
    #[error(
        "image {id} has {found:?} pixels, the others have {expected:?}: resize them to one size"
    )]
    Sizes {
        /// Id of the image.
        id: u64,
        /// Its width and height.
        found: (u32, u32),
        /// Those of the first image.
        expected: (u32, u32),
    },
    /// A worker thread that prepares batches ended early.
    #[error("a worker thread that prepares batches failed: {reason}")]
    Worker {
        /// Why.
        reason: String,
    },
    /// A trigger or its ledger is invalid.
    #[error(transparent)]
    Trigger(#[from] ssl_backdoor_trigger::TriggerError),
}

impl DataError {
    /// The field of [`DataConfig`](crate::DataConfig) that this error is about; the message begins with it. `None` if
    /// it is about something else, such as a field of the [trigger](Self::Trigger).
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Unset { field, .. } | Self::NoImages { field, .. } => Some(field),
            Self::Range(range) => Some(&range.field),
            _ => None,
        }
    }

    /// The element of `all` at `position`, or the error that it does not exist.
    pub(crate) fn at<T>(all: &[T], position: usize) -> Result<&T, Self> {
        all.get(position).ok_or(Self::Position { position, len: all.len() })
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(", ")
}
