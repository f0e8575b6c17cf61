//! Strips of sample images as PNG data URIs.

use std::io::Cursor;

use anyhow::{Context, Result};
use base64::Engine;
use image::{ImageFormat, RgbImage, imageops};
use ssl_backdoor_data::{DataError, Sample, SampleSet};

use super::Sources;

/// Images in a strip.
const COUNT: usize = 10;
/// Pixels between two images.
const GAP: u32 = 2;
/// Sides below this are enlarged by a whole factor, so that pixels stay pixels.
const SHOWN: u32 = 72;

/// Captions and pictures: poisoned training images, evaluation images without and with trigger.
pub(super) fn strips(sources: &Sources<'_>) -> Result<Vec<(String, String)>> {
    let (set, plan) = &sources.poisoned;
    let poisoned = first(set, |sample| plan.contains(sample.id))?;
    let [clean, patched] = &sources.evaluation;
    let strips = [
        ("Poisoned training images", poisoned),
        ("Evaluation images", first(clean, |_| true)?),
        ("The same images, patched", first(patched, |_| true)?),
    ];
    strips.into_iter().map(|(caption, images)| Ok((caption.into(), data_uri(&images)?))).collect()
}

fn first(set: &SampleSet, keep: impl Fn(&Sample) -> bool) -> Result<Vec<RgbImage>, DataError> {
    let mut images = Vec::with_capacity(COUNT);
    for index in 0..set.len() {
        let sample = set.get(index)?;
        if keep(&sample) {
            images.push(sample.image);
        }
        if images.len() == COUNT {
            break;
        }
    }
    Ok(images)
}

fn data_uri(images: &[RgbImage]) -> Result<String> {
    let (width, height) = images.first().map_or((1, 1), RgbImage::dimensions);
    let factor = SHOWN.div_ceil(height);
    let (w, h) = (width * factor, height * factor);
    let count = images.len() as u32;
    let mut strip = RgbImage::from_pixel(count * (w + GAP), h, image::Rgb([128; 3]));
    for (i, image) in (0..).zip(images) {
        let large = imageops::resize(image, w, h, imageops::FilterType::Nearest);
        imageops::replace(&mut strip, &large, i * i64::from(w + GAP), 0);
    }
    let mut png = Cursor::new(Vec::new());
    strip.write_to(&mut png, ImageFormat::Png).context("cannot encode a strip of samples")?;
    let text = base64::engine::general_purpose::STANDARD.encode(png.into_inner());
    Ok(format!("data:image/png;base64,{text}"))
}
