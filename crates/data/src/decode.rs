//! Image files to RGB bytes, as PIL's `Image.open(path).convert("RGB")` gives them: the format is told
//! by the content, alpha is dropped, EXIF orientation is ignored unless asked for.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::DataError;

/// Bytes that decoding one image may take: a lying header allocates nothing huge.
const MAX_BYTES: u64 = 1 << 30;
/// The longest side, in pixels (that of JPEG).
const MAX_SIDE: u32 = 65_535;

/// Decodes a JPEG (baseline, progressive, grey, CMYK) or PNG (8 or 16 bits, palette, alpha; of an
/// animated one the still image). With `exif` the image is turned as its EXIF orientation says.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: &[u8], exif: bool) -> Result<RgbImage, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| format!("cannot be read: {e}"))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    match reader.format() {
        None => return Err("neither JPEG nor PNG".into()),
        Some(ImageFormat::Jpeg) if !ends(bytes) => {
            return Err("no whole JPEG or PNG: truncated, it has no end".into());
        }
        Some(_) => {}
    }
    let wrong = |e: image::ImageError| format!("no whole JPEG or PNG: {e}");
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let orientation = if exif { decoder.orientation().ok() } else { None };
    let mut image = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    if image.width() == 0 || image.height() == 0 {
        return Err("the image has no pixels".into());
    }
    Ok(match image {
        DynamicImage::ImageRgb8(image) => image,
        other => other.to_rgb8(),
    })
}

/// Does a JPEG's last scan end with its marker? The decoder would fill what is missing with grey. Within
/// a scan a byte 0xff is never followed by that of a marker.
fn ends(bytes: &[u8]) -> bool {
    let mut from_the_end = bytes.windows(2).rev();
    from_the_end.find(|pair| matches!(pair, [0xff, 0xda | 0xd9])).is_none_or(|pair| pair[1] == 0xd9)
}

/// Reads and decodes the image file `path`.
///
/// # Errors
/// The file cannot be read, or holds no whole image; the path is named.
pub fn read_image(path: &Path, exif: bool) -> Result<RgbImage, DataError> {
    let bytes =
        std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })?;
    decode(&bytes, exif).map_err(|reason| DataError::Format { path: path.into(), reason })
}
