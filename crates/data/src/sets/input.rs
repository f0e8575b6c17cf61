//! Code shared by the readers of all sets.

use std::path::Path;

use image::RgbImage;

use crate::DataError;

/// An image from three planes; `at(channel, x, y)` gives the bytes.
pub(super) fn from_planes(side: u32, at: impl Fn(usize, usize, usize) -> u8) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        image::Rgb([0, 1, 2].map(|c| at(c, x as usize, y as usize)))
    })
}

/// The bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })
}

/// The error that a file does not have the expected content.
pub(crate) fn format(path: &Path, reason: String) -> DataError {
    DataError::Format { path: path.into(), reason }
}
