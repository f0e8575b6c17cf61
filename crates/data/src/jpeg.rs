//! Encodes images as the files of an export, and reads back the pixels of such a file.

use image::RgbImage;
use ssl_backdoor_images::{JpegEncoder, decode, jpeg, png};

/// How the files of an export are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As version 0.1 wrote them.
    First,
    /// As version 0.2 wrote them.
    Second,
    /// As PIL writes them.
    Present,
}

impl Format {
    /// Extensions of the files that are written as JPEG, as in PIL.
    fn jpeg(self) -> &'static [&'static str] {
        match self {
            Self::First => &["jpg", "jpeg"],
            Self::Second | Self::Present => &["jpg", "jpeg", "jpe", "jfif"],
        }
    }

    fn encoder(self) -> JpegEncoder {
        match self {
            Self::First => JpegEncoder::FirstPixel,
            Self::Second => JpegEncoder::MeanPixel,
            Self::Present => JpegEncoder::Pil,
        }
    }
}

/// Whether a file of this name is written as JPEG. All others are PNG.
pub(crate) fn is_jpeg(name: &str) -> bool {
    has_extension(name, Format::Present.jpeg())
}

/// Whether `name` ends with one of these extensions, in upper or lower case.
pub(crate) fn has_extension(name: &str, extensions: &[&str]) -> bool {
    let extension = std::path::Path::new(name).extension().unwrap_or_default();
    extensions.contains(&extension.to_string_lossy().to_lowercase().as_str())
}

/// Encodes `image` as a file of this name.
///
/// # Errors
/// A side that is too long for a JPEG.
pub(crate) fn encode(image: &RgbImage, name: &str, format: Format) -> Result<Vec<u8>, String> {
    let encoded = match has_extension(name, format.jpeg()) {
        true => jpeg(image, format.encoder()),
        false => png(image),
    };
    encoded.map_err(|error| error.to_string())
}

/// The pixels of `image` after it is written to a file of this name and read again.
///
/// # Errors
/// As [`encode`].
pub(crate) fn written_and_read(image: RgbImage, name: &str) -> Result<RgbImage, String> {
    if !is_jpeg(name) {
        return Ok(image);
    }
    decode(&encode(&image, name, Format::Present)?, false).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exports are rebuilt byte for byte. If a new version of the encoder writes other bytes, earlier exports no
    /// longer verify: [`FORMAT`](crate::FORMAT) must then increase.
    #[test]
    fn the_bytes_of_a_jpeg_are_those_of_its_format() {
        let image = RgbImage::from_fn(45, 31, |x, y| {
            image::Rgb([(x * 5) as u8, (y * 8) as u8, (x * y / 3 + 90 * (x / 7 % 2)) as u8])
        });
        let hash = |format| {
            blake3::hash(&encode(&image, "a.JPEG", format).unwrap()).to_hex()[..16].to_owned()
        };
        assert_eq!(
            [Format::First, Format::Second, Format::Present].map(hash),
            ["6182012b4462bfc3", "c12ba01bbd614b30", "0a5ee713adffbde2"]
        );
    }

    #[test]
    fn names_decide_the_format() {
        let image = RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 28, y as u8 * 36, 200]));
        for name in ["a.jpg", "a.JPEG", "a.b.JpG", "a.jfif", "a.jpe"] {
            assert!(is_jpeg(name), "{name}");
            assert_ne!(written_and_read(image.clone(), name).unwrap(), image);
        }
        for name in ["a.png", "jpg", "a.jpg.png", "a"] {
            assert!(!is_jpeg(name), "{name}");
            assert_eq!(written_and_read(image.clone(), name).unwrap(), image);
        }
        assert!(written_and_read(RgbImage::new(70_000, 1), "a.jpg").unwrap_err().contains("70000"));
    }
}
