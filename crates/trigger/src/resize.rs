//! Pictures, images and masks at other sizes, all above 0.

use image::{GrayImage, RgbImage, RgbaImage};
use ssl_backdoor_images::{Filter, ImageError, Resizer, resize_mask, resize_rgba};

/// Resizes `picture` to `size` (width, height) with the bicubic filter.
pub(crate) fn picture(picture: &RgbaImage, size: (u32, u32)) -> RgbaImage {
    done(resize_rgba(picture, size))
}

/// Resizes `image` to `size` (width, height). An image of that size does not change.
pub(crate) fn image(image: &RgbImage, size: (u32, u32), filter: Filter) -> RgbImage {
    if image.dimensions() == size {
        return image.clone();
    }
    let mut out = RgbImage::new(size.0, size.1);
    done(Resizer::default().part(image, (0, 0), image.dimensions(), filter, &mut out));
    out
}

/// Resizes `mask` to `size` (width, height) by nearest-neighbour sampling.
pub(crate) fn mask(mask: &GrayImage, size: (u32, u32)) -> GrayImage {
    if mask.dimensions() == size { mask.clone() } else { done(resize_mask(mask, size)) }
}

fn done<T>(resized: Result<T, ImageError>) -> T {
    resized.unwrap_or_else(|error| unreachable!("two images of non-zero size: {error}"))
}
