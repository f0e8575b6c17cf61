//! Crops and resizes: antialiased resizing on bytes as PIL does it.

use image::RgbImage;
use ssl_backdoor_images::{Filter, ImageError, Resizer};

use super::{CropBox, Geometry};

/// Cuts `crop` out of `image` and resizes it to `out`. Only pixels inside the crop are read, as if the image were
/// cropped first.
pub(crate) fn crop_resize(
    image: &RgbImage,
    crop: CropBox,
    filter: Filter,
    resizer: &mut Resizer,
    out: &mut RgbImage,
) {
    let CropBox { x, y, width, height } = crop;
    inside(resizer.part(image, (x, y), (width, height), filter, out));
}

/// For a part that lies inside its image.
fn inside(resized: Result<(), ImageError>) {
    resized.unwrap_or_else(|error| unreachable!("the part lies inside the image: {error}"));
}

/// The box that covers all of `image`.
fn whole(image: &RgbImage) -> CropBox {
    CropBox { x: 0, y: 0, width: image.width(), height: image.height() }
}

/// Cuts `crop`, which must lie inside `image`, out of it and resizes it to a square of `size` pixels.
pub fn resize_crop_box(image: &RgbImage, crop: CropBox, size: u32, filter: Filter) -> RgbImage {
    let mut out = RgbImage::new(size, size);
    crop_resize(image, crop, filter, &mut Resizer::default(), &mut out);
    out
}

/// Size of an image whose shorter side is resized to `shorter`; the longer one is truncated, as in
/// torchvision's `Resize`.
pub fn resized((width, height): (u32, u32), shorter: u32) -> (u32, u32) {
    let long = |long: u32, short: u32| {
        (u64::from(shorter) * u64::from(long) / u64::from(short.max(1))).min(u32::MAX.into()) as u32
    };
    if width <= height { (shorter, long(height, width)) } else { (long(width, height), shorter) }
}

/// The part of `image` (size `from`) that becomes the box at `corner` of side `side` once the shorter
/// side of the image is `shorter`.
fn part_of_resized(from: (u32, u32), shorter: u32, corner: [u32; 2], side: u32) -> Geometry {
    let to = resized(from, shorter);
    let scale = [f64::from(from.0) / f64::from(to.0), f64::from(from.1) / f64::from(to.1)];
    Geometry {
        corner: [f64::from(corner[0]) * scale[0], f64::from(corner[1]) * scale[1]],
        extent: scale.map(|s| s * f64::from(side)),
        ..Geometry::default()
    }
}

/// Resizes the shorter side to `shorter` and cuts out the square `out` at `corner`, in one pass: pixels outside the
/// square are never computed.
pub(crate) fn resize_crop(
    image: &RgbImage,
    shorter: u32,
    corner: [u32; 2],
    resizer: &mut Resizer,
    out: &mut RgbImage,
) -> Geometry {
    let part = part_of_resized(image.dimensions(), shorter, corner, out.width());
    let Geometry { corner: [x, y], extent: [width, height], .. } = part;
    // The last pixel's edge may lie a rounding error past the image's edge.
    let width = width.min(f64::from(image.width()) - x);
    let height = height.min(f64::from(image.height()) - y);
    inside(resizer.window(image, [x, y], [width, height], Filter::Bilinear, out));
    part
}

/// Length of an image's shorter side before its centre of `size` is cut out: 256 for 224 (docs/protocol.md, 1.2).
pub fn shorter_side(size: u32) -> u32 {
    (u64::from(size) * 256).div_ceil(224) as u32
}

/// Resize and CenterCrop, as evaluation images are prepared: the shorter side to [`shorter_side`], then the central
/// square of `size`. An image that already has this size is unchanged.
pub fn resize_center_crop(image: RgbImage, size: u32) -> RgbImage {
    if image.dimensions() == (size, size) {
        return image;
    }
    let shorter = shorter_side(size);
    let (width, height) = resized(image.dimensions(), shorter);
    let mut out = RgbImage::new(size, size);
    let corner = central([width, height], size);
    resize_crop(&image, shorter, corner, &mut Resizer::default(), &mut out);
    out
}

/// Resizes the whole image so that its shorter side is `shorter`.
pub fn resize_shorter(image: &RgbImage, shorter: u32) -> RgbImage {
    resize_whole(image, resized(image.dimensions(), shorter))
}

/// Resizes the whole image to a square of `size`; an image that already has this size is unchanged.
pub(crate) fn resize_square(image: RgbImage, size: u32) -> RgbImage {
    if image.dimensions() == (size, size) { image } else { resize_whole(&image, (size, size)) }
}

/// Resizes the whole image to `(width, height)`, bilinear as PIL does.
pub(crate) fn resize_whole(image: &RgbImage, size: (u32, u32)) -> RgbImage {
    resize_whole_by(image, size, Filter::Bilinear)
}

/// The same with any filter.
pub(crate) fn resize_whole_by(
    image: &RgbImage,
    (width, height): (u32, u32),
    filter: Filter,
) -> RgbImage {
    let mut out = RgbImage::new(width, height);
    crop_resize(image, whole(image), filter, &mut Resizer::default(), &mut out);
    out
}

/// Top left corner of the central square of `size` in an image of these sides; halves round to even, as in Python.
pub(crate) fn central([width, height]: [u32; 2], size: u32) -> [u32; 2] {
    let offset = |side: u32| (f64::from(side.saturating_sub(size)) / 2.0).round_ties_even() as u32;
    [offset(width), offset(height)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_of_its_own_size_is_a_copy() {
        let image = RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 9, y as u8 * 9, 3]));
        let crop = CropBox { x: 2, y: 1, width: 4, height: 4 };
        let mut out = RgbImage::new(4, 4);
        crop_resize(&image, crop, Filter::Bilinear, &mut Resizer::default(), &mut out);
        assert_eq!(out, image::imageops::crop_imm(&image, 2, 1, 4, 4).to_image());
    }
}
