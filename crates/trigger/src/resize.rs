//! Resizing as in PIL, which widens the filter when a picture shrinks.

use fast_image_resize as fir;
use fir::pixels::{F32x4, U8, U8x3, U8x4};
use fir::{FilterType, IntoImageView, IntoImageViewMut, PixelTrait, ResizeAlg};
use image::{ColorType, DynamicImage, GrayImage, RgbImage, RgbaImage};

/// PIL's `BICUBIC`, Keys' cubic with a = −0.5, its default for colours.
pub(crate) const BICUBIC: ResizeAlg = ResizeAlg::Convolution(FilterType::CatmullRom);
/// PIL's `LANCZOS`, with three lobes.
pub(crate) const LANCZOS: ResizeAlg = ResizeAlg::Convolution(FilterType::Lanczos3);

/// Resizes `picture` to `size` (width, height), both above 0, with the bicubic filter. Transparent pictures are
/// resized in floating point with colours weighted by alpha, because bytes lose the colours of faint pixels.
pub(crate) fn picture(picture: &RgbaImage, size: (u32, u32)) -> RgbaImage {
    if picture.pixels().all(|pixel| pixel[3] == 255) {
        let mut out = RgbaImage::new(size.0, size.1);
        resize::<U8x4>(picture, &mut out, BICUBIC);
        return out;
    }
    let from = DynamicImage::ImageRgba8(picture.clone()).into_rgba32f();
    let mut out = DynamicImage::new(size.0, size.1, ColorType::Rgba32F);
    resize::<F32x4>(&DynamicImage::ImageRgba32F(from), &mut out, BICUBIC);
    out.to_rgba8()
}

/// Resizes `image` to `size` (width, height), both above 0. An image of that size does not change. The width comes
/// first, as in PIL: levels are clamped to 0 to 255 in between, so the order matters at sharp edges.
pub(crate) fn image(image: &RgbImage, size: (u32, u32), filter: ResizeAlg) -> RgbImage {
    if image.dimensions() == size {
        return image.clone();
    }
    let mut wide = RgbImage::new(size.0, image.height());
    resize::<U8x3>(image, &mut wide, filter);
    let mut out = RgbImage::new(size.0, size.1);
    resize::<U8x3>(&wide, &mut out, filter);
    out
}

/// Resizes `mask` to `size` (width, height), both above 0, by nearest-neighbour sampling.
pub(crate) fn mask(mask: &GrayImage, size: (u32, u32)) -> GrayImage {
    if mask.dimensions() == size {
        return mask.clone();
    }
    let mut out = GrayImage::new(size.0, size.1);
    resize::<U8>(mask, &mut out, ResizeAlg::Nearest);
    out
}

/// Resizes with the function for one pixel type. The function that dispatches on the images' types is compiled for
/// every pixel type, which takes minutes.
fn resize<P: PixelTrait>(
    from: &impl IntoImageView,
    to: &mut impl IntoImageViewMut,
    filter: ResizeAlg,
) {
    let (Some(from), Some(mut to)) = (from.image_view::<P>(), to.image_view_mut::<P>()) else {
        unreachable!("both images have these pixels")
    };
    let options = fir::ResizeOptions::new().resize_alg(filter);
    fir::Resizer::new()
        .resize_typed(&from, &mut to, &options)
        .unwrap_or_else(|e| unreachable!("two images of non-zero size: {e}"));
}
