//! Image files to RGB bytes, as Pillow's `Image.open(path).convert("RGB")` gives them: the format is told by the
//! content, alpha is dropped, EXIF orientation is ignored unless asked for, of an animation the first frame is taken.
//!
//! Two deviations are deliberate. Grey values of 16 bits are scaled to 8; Pillow cuts them off at 255. A JPEG whose data
//! end early is refused; Pillow fills the rest with grey if enough bytes of anything else follow.

mod gif;
mod jpeg;

use std::io::{Cursor, ErrorKind};
use std::path::Path;

use image::error::{ImageError, UnsupportedErrorKind};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::DataError;

/// Bytes that decoding one image may take: a lying header allocates nothing huge.
const MAX_BYTES: u64 = 1 << 30;
/// The longest side, in pixels (that of JPEG).
const MAX_SIDE: u32 = 65_535;
const NO_PIXELS: &str = "the image has no pixels";

/// The formats that are read.
const FORMATS: [(ImageFormat, &str); 7] = [
    (ImageFormat::Jpeg, "JPEG"),
    (ImageFormat::Png, "PNG"),
    (ImageFormat::WebP, "WebP"),
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::Tiff, "TIFF"),
    (ImageFormat::Pnm, "PNM"),
];

/// The usual extensions of their files, in lower case.
pub(crate) const EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff", "ppm",
    "pgm", "pbm", "pnm",
];

/// The names of the formats that are read, for messages.
pub(crate) const FORMAT_NAMES: &str = "JPEG, PNG, WebP, BMP, GIF, TIFF and PNM";

/// Decodes an image of any format that is read: JPEG (baseline, progressive, grey, CMYK), PNG (8 or 16 bits, palette,
/// alpha), WebP, BMP, GIF, TIFF, PNM. With `exif` the image is turned as its EXIF orientation says. Bytes behind the end
/// of a JPEG are not looked at.
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
        return Err(format!("{}: the formats that are read are {FORMAT_NAMES}", foreign(bytes)));
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

/// What a file of another format is.
fn foreign(bytes: &[u8]) -> String {
    let brand = bytes.get(4..12).unwrap_or_default();
    let head = bytes.trim_ascii_start();
    let known = match brand {
        b"ftypheic" | b"ftypheix" | b"ftypmif1" | b"ftypmsf1" | b"ftyphevc" => Some("HEIC"),
        b"ftypavif" | b"ftypavis" => Some("AVIF"),
        [b'f', b't', b'y', b'p', ..] => Some("video"),
        _ if bytes.starts_with(b"\xff\x0a") || brand == b"JXL \r\n\x87\n" => Some("JPEG XL"),
        _ if brand.starts_with(b"jP  ") => Some("JPEG 2000"),
        _ if head.starts_with(b"<svg") || head.starts_with(b"<?xml") => Some("SVG or XML"),
        _ if head.starts_with(b"<") => Some("HTML or XML"),
        _ if bytes.starts_with(b"8BPS") => Some("PSD"),
        _ if bytes.starts_with(b"%PDF") => Some("PDF"),
        _ => None,
    };
    match (known, image::guess_format(bytes)) {
        (Some(name), _) => format!("it holds {name}"),
        (None, Ok(format)) => format!("it holds {format:?}"),
        (None, Err(_)) => "it holds no image".into(),
    }
}

/// Why an image of the format `name` cannot be decoded, in words that name no library.
fn reason(name: &str, error: &ImageError) -> String {
    match error {
        ImageError::Limits(_) => too_large(name),
        ImageError::Unsupported(error) => match error.kind() {
            UnsupportedErrorKind::GenericFeature(what) if what.contains("Palette") => {
                format!("{name} of a kind that is not read: it has a palette")
            }
            _ => format!("{name} of a kind that is not read"),
        },
        error => broken(name, error),
    }
}

fn too_large(name: &str) -> String {
    let most = MAX_BYTES >> 20;
    format!(
        "{name} that is too large: allowed are {MAX_SIDE} pixels a side and {most} MiB of pixels"
    )
}

/// Truncated if the decoder ran out of bytes, whatever error it wraps that in; else damaged.
fn broken(name: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        let text = error.to_string().to_lowercase();
        let ended =
            ["unexpected end", "unexpected eof", "failed to fill whole buffer", "no more bytes"];
        if io.is_some_and(|error| error.kind() == ErrorKind::UnexpectedEof)
            || ended.iter().any(|words| text.contains(words))
        {
            return format!("truncated {name}");
        }
        cause = error.source();
    }
    format!("damaged {name}")
}

/// Reads and decodes the image file `path`.
///
/// # Errors
/// The file cannot be read, or holds no whole image; the path is named.
pub fn read_image(path: &Path, exif: bool) -> Result<RgbImage, DataError> {
    let bytes =
        std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })?;
    decoded(&bytes, exif).map_err(|reason| DataError::Format { path: path.into(), reason })
}
