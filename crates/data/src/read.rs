//! Reads an image file.

use std::path::Path;

use image::RgbImage;
use ssl_backdoor_images::decode;

use crate::DataError;

/// Reads and decodes the image file `path`; with `exif`, applies its EXIF orientation.
///
/// # Errors
/// The file cannot be read or is not a complete image; the error names the path.
pub fn read_image(path: &Path, exif: bool) -> Result<RgbImage, DataError> {
    let bytes =
        std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })?;
    decode(&bytes, exif)
        .map_err(|error| DataError::Format { path: path.into(), reason: error.to_string() })
}
