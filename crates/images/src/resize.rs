//! Resizing as in PIL, which widens the filter when an image shrinks.
//!
//! Each function resizes one pixel type. A function that accepts any image is compiled for every pixel type, which takes
//! minutes.

use std::fmt::Display;

use fast_image_resize as fir;
use fir::images::TypedCroppedImage;
use fir::pixels::{F32x4, U8, U8x3, U8x4};
use fir::{
    ImageView, ImageViewMut, IntoImageView, IntoImageViewMut, PixelTrait, ResizeAlg, ResizeOptions,
};
use image::{ColorType, DynamicImage, GrayImage, RgbImage, RgbaImage};

use crate::ImageError;

/// Interpolation filter, widened when an image shrinks (antialiasing), as in PIL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filter {
    /// The triangle: PIL's `BILINEAR`, torchvision's default.
    #[default]
    Bilinear,
    /// Keys' cubic with a = −0.5: PIL's `BICUBIC`.
    Bicubic,
    /// Three lobes: PIL's `LANCZOS`.
    Lanczos,
}

impl Filter {
    fn options(self) -> ResizeOptions {
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(match self {
            Self::Bilinear => fir::FilterType::Bilinear,
            Self::Bicubic => fir::FilterType::CatmullRom,
            Self::Lanczos => fir::FilterType::Lanczos3,
        }))
    }
}

/// Resizes RGB images and keeps its working memory for the next one.
#[derive(Debug, Clone, Default)]
pub struct Resizer(fir::Resizer);

impl Resizer {
    /// Resizes the part of `image` at `corner` (x, y) of `extent` (width, height) to `out`. Only pixels inside the part
    /// are read, as if the image were cropped first. Rows come first, as in PIL: a cubic or Lanczos filter overshoots and
    /// each pass clips to bytes, so the order matters beside hard edges.
    ///
    /// # Errors
    /// The part is not inside the image, or it or `out` has no pixels.
    pub fn part(
        &mut self,
        image: &RgbImage,
        corner: (u32, u32),
        extent: (u32, u32),
        filter: Filter,
        out: &mut RgbImage,
    ) -> Result<(), ImageError> {
        let inside =
            |at: u32, length: u32, side: u32| at.checked_add(length).is_some_and(|end| end <= side);
        let ((x, y), (w, h)) = (corner, extent);
        if !inside(x, w, image.width()) || !inside(y, h, image.height()) {
            let (width, height) = image.dimensions();
            return Err(cannot(&format!("{w}x{h} at {x}, {y} of an image of {width}x{height}")));
        }
        let (options, (width, height)) = (filter.options(), out.dimensions());
        if filter != Filter::Bilinear && w != width && h != height {
            // The resizer starts with columns.
            let mut rows = RgbImage::new(width, h);
            self.resize(image, (corner, extent), &options, &mut rows)?;
            return self.resize(&rows, ((0, 0), (width, h)), &options, out);
        }
        self.resize(image, (corner, extent), &options, out)
    }

    /// Resizes the window of `image` at `corner` [x, y] of `extent` [width, height] to `out`. Its edges may lie between
    /// pixels; those around it are read, as if the whole image were resized and then cropped.
    ///
    /// # Errors
    /// The window is not inside the image, or the image or `out` has no pixels.
    pub fn window(
        &mut self,
        image: &RgbImage,
        corner: [f64; 2],
        extent: [f64; 2],
        filter: Filter,
        out: &mut RgbImage,
    ) -> Result<(), ImageError> {
        let options = filter.options().crop(corner[0], corner[1], extent[0], extent[1]);
        self.resize(image, ((0, 0), image.dimensions()), &options, out)
    }

    fn resize(
        &mut self,
        image: &RgbImage,
        ((x, y), (width, height)): ((u32, u32), (u32, u32)),
        options: &ResizeOptions,
        out: &mut RgbImage,
    ) -> Result<(), ImageError> {
        let (Some(from), Some(mut to)) = (image.image_view::<U8x3>(), out.image_view_mut()) else {
            unreachable!("an RGB image has RGB pixels")
        };
        let from = TypedCroppedImage::new(from, x, y, width, height).map_err(|e| cannot(&e))?;
        resize(&mut self.0, &from, &mut to, options)
    }
}

/// `picture` with bicubic interpolation at `size` (width, height). Transparent pictures are resized in floating point
/// with colours weighted by alpha, because bytes lose the colours of faint pixels.
///
/// # Errors
/// One of the two sizes is 0.
pub fn resize_rgba(picture: &RgbaImage, size: (u32, u32)) -> Result<RgbaImage, ImageError> {
    let options = Filter::Bicubic.options();
    if picture.pixels().all(|pixel| pixel[3] == 255) {
        let mut out = RgbaImage::new(size.0, size.1);
        resized::<U8x4>(picture, &mut out, &options)?;
        return Ok(out);
    }
    let from = DynamicImage::ImageRgba8(picture.clone()).into_rgba32f();
    let mut out = DynamicImage::new(size.0, size.1, ColorType::Rgba32F);
    resized::<F32x4>(&DynamicImage::ImageRgba32F(from), &mut out, &options)?;
    Ok(out.to_rgba8())
}

/// `mask` at `size` (width, height) by nearest-neighbour sampling.
///
/// # Errors
/// One of the two sizes is 0.
pub fn resize_mask(mask: &GrayImage, size: (u32, u32)) -> Result<GrayImage, ImageError> {
    let mut out = GrayImage::new(size.0, size.1);
    resized::<U8>(mask, &mut out, &ResizeOptions::new().resize_alg(ResizeAlg::Nearest))?;
    Ok(out)
}

fn resized<P: PixelTrait>(
    from: &impl IntoImageView,
    to: &mut impl IntoImageViewMut,
    options: &ResizeOptions,
) -> Result<(), ImageError> {
    let (Some(from), Some(mut to)) = (from.image_view::<P>(), to.image_view_mut::<P>()) else {
        unreachable!("both images have these pixels")
    };
    resize(&mut fir::Resizer::new(), &from, &mut to, options)
}

/// Resizes a view of one pixel type; without pixels, the library would leave `to` as it is.
fn resize<P: PixelTrait>(
    resizer: &mut fir::Resizer,
    from: &impl ImageView<Pixel = P>,
    to: &mut impl ImageViewMut<Pixel = P>,
    options: &ResizeOptions,
) -> Result<(), ImageError> {
    if [from.width(), from.height(), to.width(), to.height()].contains(&0) {
        return Err(cannot(&"an image has no pixels"));
    }
    resizer.resize_typed(from, to, options).map_err(|e| cannot(&e))
}

fn cannot(why: &dyn Display) -> ImageError {
    ImageError::from(format!("cannot resize: {why}"))
}
