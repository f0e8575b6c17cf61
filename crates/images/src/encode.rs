//! Pixels to the bytes of a file.

use image::RgbImage;
use image::codecs::png::PngEncoder;
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};

use crate::ImageError;

/// PIL's default.
const QUALITY: u8 = 75;

/// Which encoder writes a JPEG. The last one writes new files; the others rebuild the exports of earlier versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JpegEncoder {
    /// `jpeg-encoder`. A chroma sample is the first of its 2 × 2 pixels.
    FirstPixel,
    /// `jpeg-encoder`. A chroma sample is the mean of its 2 × 2 pixels.
    MeanPixel,
    /// `libjpeg-turbo-rs`: the bytes of PIL, which uses libjpeg-turbo.
    Pil,
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
/// quality 75 with the tables of Annex K, the accurate integer transform, and 4:2:0 chroma. [`JpegEncoder::Pil`] also
/// writes the same bytes.
///
/// # Errors
/// A side is too long for a JPEG, or 0.
pub fn jpeg(image: &RgbImage, by: JpegEncoder) -> Result<Vec<u8>, ImageError> {
    let side = |length: u32| {
        let fits = u16::try_from(length);
        fits.map_err(|_| ImageError::from(format!("{length} pixels are too many for a JPEG")))
    };
    let (width, height) = (side(image.width())?, side(image.height())?);
    let chroma = match by {
        JpegEncoder::FirstPixel => ChromaSubsamplingMethod::Nearest,
        JpegEncoder::MeanPixel => ChromaSubsamplingMethod::Average,
        JpegEncoder::Pil => {
            let (width, height) = (usize::from(width), usize::from(height));
            let rgb = PixelFormat::Rgb;
            return compress(image, width, height, rgb, QUALITY, Subsampling::S420)
                .map_err(|e| ImageError::from(e.to_string()));
        }
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(chroma);
    let written = encoder.encode(image.as_raw(), width, height, ColorType::Rgb);
    written.map_err(|e| ImageError::from(e.to_string()))?;
    Ok(bytes)
}
