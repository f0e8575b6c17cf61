//! What can be wrong with a network or its file.

use std::path::{Path, PathBuf};

use ssl_backdoor_fields::OutOfRange;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A field of an [`EncoderConfig`](crate::EncoderConfig) has a value out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// A field of [`ImportOptions`](crate::ImportOptions) has a value out of range.
    #[error(transparent)]
    Option(OutOfRange),
    /// Something is none of the things that have a name.
    #[error("{value} is unknown: allowed are {allowed}")]
    Name {
        /// The name that is unknown.
        value: String,
        /// The known ones.
        allowed: &'static str,
    },
    /// An encoder is of another family than the one that is needed.
    #[error("the encoder is {found}, but {needed} is needed")]
    Family {
        /// The family that is needed, with an article.
        needed: &'static str,
        /// The family of the encoder, with an article.
        found: &'static str,
    },
    /// An encoder file could not be written or read, or holds another network.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A checkpoint does not contain a property that the import needs.
    #[error("{}: {what} cannot be inferred: pass `{option}`", path.display())]
    Unstated {
        /// The checkpoint.
        path: PathBuf,
        /// What it does not say.
        what: &'static str,
        /// The field of [`ImportOptions`](crate::ImportOptions) that sets it.
        option: &'static str,
    },
    /// Keys do not fit the queue that they are to enter.
    #[error("keys of length {found} do not fit a queue of length {expected}")]
    Keys {
        /// Numbers in a key.
        found: usize,
        /// Numbers in a row of the queue.
        expected: usize,
    },
    /// An encoder is to see images that were prepared in another way than those it was trained on.
    #[error(
        "{}: the encoder was trained on images with {key} {of_file}, but those of this run have {of_run}", path.display()
    )]
    Preprocessing {
        /// The encoder file.
        path: PathBuf,
        /// Which part of the contract differs.
        key: &'static str,
        /// What the file says.
        of_file: String,
        /// What the run does.
        of_run: String,
    },
}

impl ModelError {
    pub(crate) fn range(field: &str, value: impl ToString, allowed: &str) -> Self {
        OutOfRange::new(field, value, allowed).into()
    }

    pub(crate) fn option(field: &str, value: impl ToString, allowed: &str) -> Self {
        Self::Option(OutOfRange::new(field, value, allowed))
    }

    pub(crate) fn file(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }

    pub(crate) fn unstated(path: &Path, what: &'static str, option: &'static str) -> Self {
        Self::Unstated { path: path.into(), what, option }
    }
}
