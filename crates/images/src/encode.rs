//! Pixels to the bytes of a file.

use image::RgbImage;
use image::codecs::png::PngEncoder;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

use crate::ImageError;

/// PIL's default.
const QUALITY: u8 = 75;

/// What becomes of 2 × 2 pixels in a JPEG's chroma channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chroma {
    /// The first of them.
    First,
    /// Their mean, with libjpeg's rounding, as PIL writes it.
    Mean,
}

/// Encodes `image` as PNG.
///
/// # Errors
/// It has no pixels.
pub fn png(image: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let written = image.write_with_encoder(PngEncoder::new(&mut bytes));
    written.map_err(|e| ImageError::from(e.to_string()))?;
    Ok(bytes)
}

/// Encodes `image` as JPEG, as by PIL's `save` with its defaults, and so as by the reference (docs/protocol.md, 1.2):
/// quality 75 with the tables of Annex K, the accurate integer transform, and 4:2:0 chroma.
///
/// # Errors
/// A side is too long for a JPEG, or 0.
pub fn jpeg(image: &RgbImage, chroma: Chroma) -> Result<Vec<u8>, ImageError> {
    let side = |length: u32| {
        let fits = u16::try_from(length);
        fits.map_err(|_| ImageError::from(format!("{length} pixels are too many for a JPEG")))
    };
    let (width, height) = (side(image.width())?, side(image.height())?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(match chroma {
        Chroma::First => ChromaSubsamplingMethod::Nearest,
        Chroma::Mean => ChromaSubsamplingMethod::Average,
    });
    let written = encoder.encode(image.as_raw(), width, height, ColorType::Rgb);
    written.map_err(|e| ImageError::from(e.to_string()))?;
    Ok(bytes)
}
