//! Image files to RGB bytes, as Pillow's `Image.open(path).convert("RGB")` gives them: the format is determined by
//! the content, alpha is dropped, EXIF orientation is ignored by default, and an animation gives its first frame.
//!
//! Two deviations are deliberate. Grey values of 16 bits are scaled to 8; Pillow clips them at 255. A JPEG whose data
//! end early is refused; Pillow fills the rest with grey if enough other bytes follow.

mod gif;
mod jpeg;
mod reasons;

use std::io::Cursor;
use std::path::Path;

use image::error::ImageError;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::DataError;
use reasons::{MAX_BYTES, MAX_SIDE, NO_PIXELS, foreign, reason, too_large};

/// The supported formats.
const FORMATS: [(ImageFormat, &str); 7] = [
    (ImageFormat::Jpeg, "JPEG"),
    (ImageFormat::Png, "PNG"),
    (ImageFormat::WebP, "WebP"),
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::Tiff, "TIFF"),
    (ImageFormat::Pnm, "PNM"),
];

/// The usual file extensions of these formats, in lower case.
pub(crate) const EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff", "ppm",
    "pgm", "pbm", "pnm",
];

/// The names of the supported formats, for messages.
pub(crate) const FORMAT_NAMES: &str = "JPEG, PNG, WebP, BMP, GIF, TIFF and PNM";

/// Decodes an image of any supported format: JPEG (baseline, progressive, grey, CMYK), PNG (8 or 16 bits, palette,
/// alpha), WebP, BMP, GIF, TIFF, PNM. With `exif`, the EXIF orientation is applied. Bytes after the end of a JPEG are
/// ignored.
///
/// # Errors
/// [`DataError::Image`]: what is wrong with the bytes.
pub fn decode(bytes: &[u8], exif: bool) -> Result<RgbImage, DataError> {
    decoded(bytes, exif).map_err(|reason| DataError::Image { reason })
}

/// As [`decode`].
pub(crate) fn decoded(bytes: &[u8], exif: bool) -> Result<RgbImage, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let format = image::guess_format(bytes).ok();
    let Some((format, name)) = FORMATS.into_iter().find(|(known, _)| Some(*known) == format) else {
        return Err(format!("{}: supported formats are {FORMAT_NAMES}", foreign(bytes)));
    };
    let bytes = match format {
        ImageFormat::Jpeg => jpeg::image_of(bytes)?,
        // It has no EXIF data.
        ImageFormat::Gif => return gif::first_frame(bytes),
        _ => bytes,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let wrong = |error: ImageError| reason(name, &error);
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    if decoder.total_bytes() > MAX_BYTES {
        return Err(too_large(name));
    }
    let orientation = if exif { decoder.orientation().ok() } else { None };
    let mut image = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    if image.width() == 0 || image.height() == 0 {
        return Err(NO_PIXELS.into());
    }
    Ok(match image {
        DynamicImage::ImageRgb8(image) => image,
        other => other.to_rgb8(),
    })
}

/// Reads and decodes the image file `path`.
///
/// # Errors
/// The file cannot be read or is not a complete image; the error names the path.
pub fn read_image(path: &Path, exif: bool) -> Result<RgbImage, DataError> {
    let bytes =
        std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })?;
    decoded(&bytes, exif).map_err(|reason| DataError::Format { path: path.into(), reason })
}
