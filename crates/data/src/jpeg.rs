//! Encodes images as the files of an export, and reads back the pixels of such a file.
//!
//! JPEG is written as by PIL's `save` with its defaults, and so as by the reference (docs/protocol.md, 1.2): quality
//! 75 with the tables of Annex K, the accurate integer transform, and 4:2:0 chroma, each sample the mean of 2 × 2
//! pixels with libjpeg's rounding.

use image::RgbImage;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

use crate::decode::decoded;

/// PIL's default.
const QUALITY: u8 = 75;

/// How the files of an export are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As version 0.1 wrote them: a chroma sample is the first of its 2 × 2 pixels.
    First,
    /// As PIL writes them.
    Present,
}

impl Format {
    /// Extensions of the files that are written as JPEG, as in PIL.
    fn jpeg(self) -> &'static [&'static str] {
        match self {
            Self::First => &["jpg", "jpeg"],
            Self::Present => &["jpg", "jpeg", "jpe", "jfif"],
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
    let mut bytes = Vec::new();
    if !has_extension(name, format.jpeg()) {
        let mut to = std::io::Cursor::new(&mut bytes);
        image.write_to(&mut to, image::ImageFormat::Png).map_err(|e| e.to_string())?;
        return Ok(bytes);
    }
    let side = |length: u32| {
        u16::try_from(length).map_err(|_| format!("{length} pixels are too many for a JPEG"))
    };
    let (width, height) = (side(image.width())?, side(image.height())?);
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(match format {
        Format::First => ChromaSubsamplingMethod::Nearest,
        Format::Present => ChromaSubsamplingMethod::Average,
    });
    encoder.encode(image.as_raw(), width, height, ColorType::Rgb).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// The pixels of `image` after it is written to a file of this name and read again.
///
/// # Errors
/// As [`encode`].
pub(crate) fn written_and_read(image: RgbImage, name: &str) -> Result<RgbImage, String> {
    if !is_jpeg(name) {
        return Ok(image);
    }
    decoded(&encode(&image, name, Format::Present)?, false)
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
            [Format::First, Format::Present].map(hash),
            ["6182012b4462bfc3", "c12ba01bbd614b30"]
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
