#![doc = include_str!("../README.md")]
//!
//! EXIF orientation is ignored unless the caller asks for it, as by Pillow. Three deviations from Pillow are deliberate.
//! Grey values of 16 bits are scaled to 8; Pillow clips them at 255. A JPEG whose data end early is refused; Pillow fills
//! the rest with grey if enough other bytes follow. A TIFF with a palette is refused.

mod encode;
mod error;
mod gif;
mod jpeg;
mod reasons;
mod resize;

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage};

pub use encode::{JpegEncoder, jpeg, png};
pub use error::ImageError;
pub use jpeg::jpeg_bytes;
use reasons::{MAX_BYTES, MAX_SIDE, NO_PIXELS, foreign, reason, too_large};
pub use resize::{Filter, Resizer, resize_mask, resize_rgba};

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
pub const EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff", "ppm",
    "pgm", "pbm", "pnm",
];

/// The names of the supported formats, for messages.
pub const FORMAT_NAMES: &str = "JPEG, PNG, WebP, BMP, GIF, TIFF and PNM";

/// A file or bytes in memory, as one type: the decoders of all formats are compiled for each type that they read.
trait Source: BufRead + Seek {}

impl<T: BufRead + Seek> Source for T {}

/// Decodes an image of any supported format: JPEG (baseline, progressive, grey, CMYK), PNG (8 or 16 bits, palette,
/// alpha), WebP, BMP, GIF, TIFF, PNM. With `exif`, the EXIF orientation is applied. Bytes after the end of a JPEG are
/// ignored.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: &[u8], exif: bool) -> Result<RgbImage, ImageError> {
    let (format, name) = format(bytes)?;
    if format == ImageFormat::Gif {
        // It has no EXIF data.
        return Ok(gif::first_frame(bytes)?);
    }
    Ok(match pixels(bytes, format, name, exif)? {
        DynamicImage::ImageRgb8(image) => image,
        other => other.to_rgb8(),
    })
}

/// As [`decode`] without EXIF orientation, with the alpha channel; it is 255 where the file has none. Of a GIF, pixels
/// outside the first frame are transparent.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_rgba(bytes: &[u8]) -> Result<RgbaImage, ImageError> {
    let (format, name) = format(bytes)?;
    Ok(pixels(bytes, format, name, false)?.to_rgba8())
}

/// Width and height in pixels of the image file `path`, of which only the header is read. Of a GIF, the logical screen,
/// which [`decode`] enlarges if the first frame exceeds it.
///
/// # Errors
/// The file cannot be read, or its header is not that of a supported image.
pub fn size(path: &Path) -> Result<(u32, u32), ImageError> {
    let wrong = |error: &dyn std::fmt::Display| ImageError::from(error.to_string());
    let file: Box<dyn Source> = Box::new(BufReader::new(File::open(path).map_err(|e| wrong(&e))?));
    let reader = ImageReader::new(file).with_guessed_format().map_err(|e| wrong(&e))?;
    reader.into_dimensions().map_err(|e| wrong(&e))
}

/// The format of `bytes` and its name.
fn format(bytes: &[u8]) -> Result<(ImageFormat, &'static str), String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let format = image::guess_format(bytes).ok();
    let known = FORMATS.into_iter().find(|(known, _)| Some(*known) == format);
    known.ok_or_else(|| format!("{}: supported formats are {FORMAT_NAMES}", foreign(bytes)))
}

/// The whole image in the colours of the file.
fn pixels(
    bytes: &[u8],
    format: ImageFormat,
    name: &str,
    exif: bool,
) -> Result<DynamicImage, String> {
    let bytes = match format {
        ImageFormat::Jpeg => jpeg::image_of(bytes)?,
        _ => bytes,
    };
    let source: Box<dyn Source + '_> = Box::new(Cursor::new(bytes));
    let mut reader = ImageReader::with_format(source, format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let wrong = |error: image::ImageError| reason(name, &error);
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
    Ok(image)
}
