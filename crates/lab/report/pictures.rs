//! Strips of sample images as PNG data URIs.

use std::io::Cursor;

use anyhow::{Context, Result};
use base64::Engine;
use image::{ImageFormat, RgbImage, imageops};
use ssl_backdoor_data::{DataError, SampleSet};

use super::single::Sources;

/// Images in a strip.
const COUNT: usize = 10;
/// Pixels between two images.
const GAP: u32 = 2;
/// Sides below this are enlarged by a whole factor, so that pixels stay pixels.
const SHOWN: u32 = 72;
/// Images higher than this are shown at this height.
const LARGEST: u32 = 144;

/// Captions and pictures: poisoned training images, evaluation images without and with trigger.
pub(super) fn strips(sources: &Sources<'_>) -> Result<Vec<(String, String)>> {
    let (set, plan, labels) = &sources.poisoned;
    let poisoned = (0..labels.len()).filter(|&i| plan.contains(labels[i].0));
    let [clean, patched] = &sources.evaluation;
    let strips = [
        ("Poisoned training images", some(set, poisoned)?),
        ("Evaluation images", some(clean, 0..clean.len())?),
        ("The same images, patched", some(patched, 0..patched.len())?),
    ];
    strips.into_iter().map(|(caption, images)| Ok((caption.into(), data_uri(&images)?))).collect()
}

/// The first few images at `indices`.
fn some(set: &SampleSet, indices: impl Iterator<Item = usize>) -> Result<Vec<RgbImage>, DataError> {
    indices.take(COUNT).map(|index| Ok(set.get(index)?.image)).collect()
}

fn data_uri(images: &[RgbImage]) -> Result<String> {
    let (width, height) = images.first().map_or((1, 1), RgbImage::dimensions);
    // Photographs are made smaller.
    let (w, h, filter) = if height > LARGEST {
        ((width * LARGEST / height).max(1), LARGEST, imageops::FilterType::Triangle)
    } else {
        let factor = SHOWN.div_ceil(height);
        (width * factor, height * factor, imageops::FilterType::Nearest)
    };
    let count = images.len() as u32;
    let mut strip = RgbImage::from_pixel(count * (w + GAP), h, image::Rgb([128; 3]));
    for (i, image) in (0..).zip(images) {
        let large = imageops::resize(image, w, h, filter);
        imageops::replace(&mut strip, &large, i * i64::from(w + GAP), 0);
    }
    let mut png = Cursor::new(Vec::new());
    strip.write_to(&mut png, ImageFormat::Png).context("cannot encode a strip of samples")?;
    let text = base64::engine::general_purpose::STANDARD.encode(png.into_inner());
    Ok(format!("data:image/png;base64,{text}"))
}
