//! Errors of networks and their files.

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
    /// A name is unknown.
    #[error("{value} is unknown: allowed are {allowed}")]
    Name {
        /// The unknown name.
        value: String,
        /// The known names.
        allowed: &'static str,
    },
    /// An encoder is not of the required family.
    #[error("the encoder is {found}, but {needed} is needed")]
    Family {
        /// The required family, with an article.
        needed: &'static str,
        /// The family of the encoder, with an article.
        found: &'static str,
    },
    /// An encoder file cannot be written or read, or holds another network.
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
        /// The missing property.
        what: &'static str,
        /// The field of [`ImportOptions`](crate::ImportOptions) that sets it.
        option: &'static str,
    },
    /// Keys do not fit the queue.
    #[error("keys of length {found} do not fit a queue of length {expected}")]
    Keys {
        /// Numbers in a key.
        found: usize,
        /// Numbers in a row of the queue.
        expected: usize,
    },
    /// The images of a run are not prepared as those that the encoder was trained on.
    #[error(
        "{}: the encoder was trained on images with {key} {of_file}, but those of this run have {of_run}", path.display()
    )]
    Preprocessing {
        /// The encoder file.
        path: PathBuf,
        /// The part of the contract that differs.
        key: &'static str,
        /// The value in the file.
        of_file: String,
        /// The value of the run.
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
