//! The error of this crate.

use thiserror::Error;

/// Why bytes are no complete image of a supported format, or why an image cannot be encoded or resized.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ImageError(String);

impl From<String> for ImageError {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}
