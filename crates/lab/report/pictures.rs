//! Strips of sample images as PNG data URIs.

use anyhow::{Context, Result};
use base64::Engine;
use image::{RgbImage, imageops};
use ssl_backdoor_data::{DataError, SampleSet};
use ssl_backdoor_trigger::Footprint;

use super::material::Material;

/// Images in a strip.
const COUNT: usize = 10;
/// Pixels between two images.
const GAP: u32 = 2;
/// Images lower than this are enlarged by an integer factor, so that pixels stay sharp.
const SHOWN: u32 = 72;
/// Images higher than this are scaled down to this height.
const LARGEST: u32 = 144;

/// Factor by which differences are enlarged, because the eye would not see them.
const ENLARGED: i32 = 16;

/// Captions and pictures: poisoned training images, evaluation images without and with trigger, and for a trigger on
/// the whole image the changes it makes.
pub(super) fn strips(material: &Material<'_>) -> Result<Vec<(String, String)>> {
    let all = samples(material)?.into_iter();
    all.map(|(caption, strip)| Ok((caption, uri(&strip)?))).collect()
}

/// Like `strips`, but as images.
///
/// # Errors
/// An image cannot be read.
pub(crate) fn samples(material: &Material<'_>) -> Result<Vec<(String, RgbImage)>> {
    let (set, plan, labels) = &material.poisoned;
    let poisoned = (0..labels.len()).filter(|&i| plan.contains(labels[i].0));
    let [clean, patched] = &material.evaluation;
    let (clean, patched) = (some(clean, 0..clean.len())?, some(patched, 0..patched.len())?);
    let whole = patched.iter().any(|(_, trigger)| *trigger == Footprint::Whole);
    let changes = whole.then(|| changes(&clean, &patched));
    let only = |all: Vec<(RgbImage, Footprint)>| all.into_iter().map(|(image, _)| image).collect();
    let mut strips: Vec<(String, Vec<RgbImage>)> = vec![
        ("Poisoned training images".into(), only(some(set, poisoned)?)),
        ("Evaluation images".into(), only(clean)),
        ("The same images, patched".into(), only(patched)),
    ];
    let caption = format!("What the patch changes, {ENLARGED} times as large (grey: nothing)");
    strips.extend(changes.map(|images| (caption, images)));
    Ok(strips.into_iter().map(|(caption, images)| (caption, strip(&images))).collect())
}

/// The differences between images with and without trigger, enlarged, around grey.
fn changes(clean: &[(RgbImage, Footprint)], patched: &[(RgbImage, Footprint)]) -> Vec<RgbImage> {
    let change = |clean: &RgbImage, patched: &RgbImage| {
        RgbImage::from_fn(clean.width(), clean.height(), |x, y| {
            let (before, after) = (clean.get_pixel(x, y).0, patched.get_pixel(x, y).0);
            let levels = [0, 1, 2].map(|c| i32::from(after[c]) - i32::from(before[c]));
            image::Rgb(levels.map(|level| (128 + ENLARGED * level).clamp(0, 255) as u8))
        })
    };
    clean.iter().zip(patched).map(|((clean, _), (patched, _))| change(clean, patched)).collect()
}

/// The first few images at `indices`, each with the footprint of its trigger.
fn some(
    set: &SampleSet,
    indices: impl Iterator<Item = usize>,
) -> Result<Vec<(RgbImage, Footprint)>, DataError> {
    let one = |index| set.get(index).map(|sample| (sample.image, sample.trigger));
    indices.take(COUNT).map(one).collect()
}

/// The images side by side at the same height, as a PNG data URI.
///
/// # Errors
/// The picture cannot be encoded.
pub(crate) fn data_uri(images: &[RgbImage]) -> Result<String> {
    uri(&strip(images))
}

fn uri(strip: &RgbImage) -> Result<String> {
    Ok(uri_of_png(&png(strip)?))
}

/// A PNG file as a data URI.
pub(super) fn uri_of_png(png: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(png);
    format!("data:image/png;base64,{text}")
}

/// The image as PNG.
///
/// # Errors
/// It cannot be encoded.
pub(crate) fn png(image: &RgbImage) -> Result<Vec<u8>> {
    ssl_backdoor_images::png(image).context("cannot encode a strip of samples")
}

/// The images side by side at the same height.
fn strip(images: &[RgbImage]) -> RgbImage {
    let height = images.first().map_or(1, RgbImage::height);
    // Photographs are scaled down.
    let (h, filter) = if height > LARGEST {
        (LARGEST, imageops::FilterType::Triangle)
    } else {
        (height * SHOWN.div_ceil(height), imageops::FilterType::Nearest)
    };
    // Composed images have their own sizes.
    let width = |image: &RgbImage| (image.width() * h / image.height().max(1)).max(1);
    let total = images.iter().map(|image| width(image) + GAP).sum();
    let mut strip = RgbImage::from_pixel(total, h, image::Rgb([128; 3]));
    let mut left = 0;
    for image in images {
        let large = imageops::resize(image, width(image), h, filter);
        imageops::replace(&mut strip, &large, left.into(), 0);
        left += width(image) + GAP;
    }
    strip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_several_sizes_keep_their_shapes() {
        let image = |width, height| RgbImage::from_pixel(width, height, image::Rgb([9; 3]));
        let text = data_uri(&[image(64, 32), image(32, 64)]).unwrap();
        let png = text.strip_prefix("data:image/png;base64,").unwrap();
        let png = base64::engine::general_purpose::STANDARD.decode(png).unwrap();
        let strip = image::load_from_memory(&png).unwrap().into_rgb8();
        // At the height of the first, enlarged: twice as wide, and half as wide.
        let height = 32 * SHOWN.div_ceil(32);
        assert_eq!(strip.dimensions(), (2 * height + height / 2 + 2 * GAP, height));
    }

    #[test]
    fn changes_are_enlarged_around_grey() {
        let image = |pixel| vec![(RgbImage::from_pixel(1, 1, image::Rgb(pixel)), Footprint::Whole)];
        let found = changes(&image([10, 10, 10]), &image([10, 12, 1]));
        assert_eq!(found[0].get_pixel(0, 0).0, [128, 160, 0]);
    }
}
