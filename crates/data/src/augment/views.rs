//! View chains: what a method sees of an image.

use fast_image_resize as fir;
use image::RgbImage;
use rand::RngExt;
use rand::seq::SliceRandom;
use ssl_backdoor_trigger::chance::ChaCha8Rng;

use super::{blur, color, crop};

/// Mean of ImageNet by channel, the reference's normalisation everywhere (protocol 0).
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet by channel.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Buffers that one worker reuses from image to image.
#[derive(Default)]
pub struct Scratch {
    resizer: fir::Resizer,
    bytes: RgbImage,
    blur: Vec<f32>,
}

/// The views a method takes of each image.
pub trait Views: Send + Sync {
    /// How many views of an image a step needs.
    fn count(&self) -> usize;

    /// Side of a view in pixels.
    fn size(&self) -> u32;

    /// Writes view number `view` of `image`, normalised, to `out` (`[3, size, size]`).
    fn write(
        &self,
        view: usize,
        image: &RgbImage,
        rng: &mut ChaCha8Rng,
        scratch: &mut Scratch,
        out: &mut [f32],
    );
}

/// MoCo v2's chain, the same for both views (protocol 2.1): RandomResizedCrop, ColorJitter(0.4, 0.4,
/// 0.4, 0.1) with p 0.8, grey with p 0.2, Gaussian blur σ U(0.1, 2) with p 0.5, flip with p 0.5,
/// normalise.
#[derive(Debug, Clone, PartialEq)]
pub struct MocoViews {
    /// Side of a view in pixels.
    pub size: u32,
    /// Share of the image's area that a crop takes, low and high; the paper's is (0.2, 1).
    pub crop: (f64, f64),
    /// Whether to blur; off at small sizes (≤ 64 px), where σ 2 would leave nothing to see.
    pub blur: bool,
}

const JITTER: f32 = 0.4;
const JITTER_HUE: f32 = 0.1;

impl Views for MocoViews {
    fn count(&self) -> usize {
        2
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn write(
        &self,
        _view: usize,
        image: &RgbImage,
        rng: &mut ChaCha8Rng,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        random_resized_crop(image, self.size, self.crop, rng, scratch, out);
        if rng.random_bool(0.8) {
            color_jitter(out, rng);
        }
        if rng.random_bool(0.2) {
            color::grayscale(out);
        }
        if self.blur && rng.random_bool(0.5) {
            let sigma = rng.random_range(0.1..2.0);
            let side = self.size as usize;
            blur::gaussian_blur(out, side, side, sigma, &mut scratch.blur);
        }
        random_flip(out, self.size, rng);
        normalize(out);
    }
}

/// One weak view: RandomResizedCrop and flip. What CompReSS sees (protocol 5).
#[derive(Debug, Clone, PartialEq)]
pub struct WeakViews {
    /// Side of a view in pixels.
    pub size: u32,
    /// Share of the image's area that a crop takes, low and high.
    pub crop: (f64, f64),
}

impl Views for WeakViews {
    fn count(&self) -> usize {
        1
    }

    fn size(&self) -> u32 {
        self.size
    }

    fn write(
        &self,
        _view: usize,
        image: &RgbImage,
        rng: &mut ChaCha8Rng,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        random_resized_crop(image, self.size, self.crop, rng, scratch, out);
        random_flip(out, self.size, rng);
        normalize(out);
    }
}

/// A random crop of `image`, resized, as planes in 0 to 1.
fn random_resized_crop(
    image: &RgbImage,
    size: u32,
    scale: (f64, f64),
    rng: &mut ChaCha8Rng,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let crop_box = crop::random_resized_crop_box(image.dimensions(), scale, rng);
    if scratch.bytes.dimensions() != (size, size) {
        scratch.bytes = RgbImage::new(size, size);
    }
    crop::crop_resize(image, crop_box, &mut scratch.resizer, &mut scratch.bytes);
    to_planes(&scratch.bytes, out);
}

/// Mirrors left and right with probability ½.
fn random_flip(image: &mut [f32], size: u32, rng: &mut ChaCha8Rng) {
    if rng.random_bool(0.5) {
        image.chunks_exact_mut(size as usize).for_each(<[f32]>::reverse);
    }
}

/// The four operations of torchvision's ColorJitter(0.4, 0.4, 0.4, 0.1) in a random order.
fn color_jitter(image: &mut [f32], rng: &mut ChaCha8Rng) {
    let factor = 1.0 - JITTER..=1.0 + JITTER;
    let (brightness, contrast, saturation) = (
        rng.random_range(factor.clone()),
        rng.random_range(factor.clone()),
        rng.random_range(factor),
    );
    let hue = rng.random_range(-JITTER_HUE..=JITTER_HUE);
    let mut order = [0, 1, 2, 3];
    order.shuffle(rng);
    for op in order {
        match op {
            0 => color::adjust_brightness(image, brightness),
            1 => color::adjust_contrast(image, contrast),
            2 => color::adjust_saturation(image, saturation),
            _ => color::adjust_hue(image, hue),
        }
    }
}

/// Interleaved bytes to planes in 0 to 1.
pub(crate) fn to_planes(image: &RgbImage, out: &mut [f32]) {
    let n = out.len() / 3;
    for (i, pixel) in image.as_raw().chunks_exact(3).enumerate() {
        for (channel, &byte) in pixel.iter().enumerate() {
            out[channel * n + i] = f32::from(byte) / 255.0;
        }
    }
}

/// Subtracts the ImageNet mean and divides by its standard deviation, channel by channel.
pub fn normalize(image: &mut [f32]) {
    let n = image.len() / 3;
    for ((plane, mean), std) in image.chunks_exact_mut(n).zip(MEAN).zip(STD) {
        plane.iter_mut().for_each(|v| *v = (*v - mean) / std);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_trigger::chance::{self, Purpose};

    #[test]
    fn a_view_is_a_function_of_its_key() {
        let image = RgbImage::from_fn(20, 20, |x, y| image::Rgb([x as u8 * 12, y as u8 * 12, 90]));
        let views = MocoViews { size: 16, crop: (0.2, 1.0), blur: true };
        let write = |id, scratch: &mut Scratch| {
            let mut out = vec![0.0; 3 * 16 * 16];
            let mut rng = chance::rng(1, Purpose::View, 0, id, 0);
            views.write(0, &image, &mut rng, scratch, &mut out);
            out
        };
        let mut used = Scratch::default();
        let first: Vec<_> = (0..20).map(|id| write(id, &mut used)).collect();
        for id in (0..20).rev() {
            assert_eq!(first[id as usize], write(id, &mut Scratch::default()));
        }
        assert_ne!(first[0], first[1]);
        assert!(first.iter().flatten().all(|v| v.is_finite() && v.abs() < 3.0));
    }
}
