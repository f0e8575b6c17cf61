//! The views of an image for a method: the trait, and code that all chains share.

use std::any::Any;

use image::RgbImage;
use pulp::Arch;
use ssl_backdoor_images::Resizer;
use ssl_backdoor_rng::{ChaCha8Rng, Purpose, keyed};

use super::Geometry;

/// Mean of ImageNet by channel, the reference's normalisation everywhere (docs/protocol.md, 0).
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet by channel.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Buffers that one worker reuses from image to image.
#[derive(Default)]
pub struct Scratch {
    pub(super) resizer: Resizer,
    pub(super) bytes: RgbImage,
    pub(super) blur: Vec<f32>,
    pub(super) planes: Vec<f32>,
}

impl Scratch {
    /// Makes `bytes` a square of this side.
    pub(super) fn square(&mut self, side: u32) {
        if self.bytes.dimensions() != (side, side) {
            self.bytes = RgbImage::new(side, side);
        }
    }
}

/// The key of the random draws for the views of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewKey {
    /// Seed of the run.
    pub seed: u64,
    /// What the views are for (see [`purpose`](crate::purpose)): `VIEW` for pretraining, `PROBE_VIEW` for a probe,
    /// `STUDENT_VIEW` for the defence. Views for different purposes are independent.
    pub purpose: Purpose,
    /// Epoch, from 0.
    pub epoch: u32,
    /// The image.
    pub id: u64,
}

impl ViewKey {
    /// The generator of view number `view`.
    pub fn rng(&self, view: u64) -> ChaCha8Rng {
        keyed(self.seed, self.purpose, self.epoch, self.id, view)
    }
}

/// The views of each image for a method. Code that modifies other views may query their type (`Any`), as
/// [`ChainViews::of`](super::ChainViews::of) does.
pub trait Views: Any + Send + Sync {
    /// Number of views of an image that a step needs.
    fn count(&self) -> usize;

    /// Side of a view in pixels; of the largest view if they differ.
    fn size(&self) -> u32;

    /// Side of view number `view` in pixels.
    fn size_of(&self, _view: usize) -> u32 {
        self.size()
    }

    /// The positive pairs of views: the method pulls the second view towards the output for the first. Each occurs as
    /// often as the loss counts it. Empty for a method that compares no views.
    fn pairs(&self) -> Vec<[usize; 2]> {
        Vec::new()
    }

    /// Writes the views of `image`, normalised, to `out` (one `[3, side, side]` per view, with its
    /// [side](Self::size_of)), and the crop of each to `geometry`.
    fn write(
        &self,
        image: &RgbImage,
        key: &ViewKey,
        scratch: &mut Scratch,
        out: &mut [&mut [f32]],
        geometry: &mut [Geometry],
    );

    /// Patches of a view that the method hides from its encoder, if it hides any (MAE): true =
    /// hidden, row by row over a square grid.
    fn hidden(&self, _key: &ViewKey) -> Option<Vec<bool>> {
        None
    }
}

/// Converts interleaved bytes to planes in 0 to 1.
pub(crate) fn to_planes(image: &RgbImage, out: &mut [f32]) {
    let n = out.len() / 3;
    let (r, rest) = out.split_at_mut(n);
    let (g, b) = rest.split_at_mut(n);
    Arch::new().dispatch(|| {
        let pixels = image.as_raw().chunks_exact(3);
        for (((r, g), b), pixel) in r.iter_mut().zip(g).zip(b).zip(pixels) {
            *r = f32::from(pixel[0]) / 255.0;
            *g = f32::from(pixel[1]) / 255.0;
            *b = f32::from(pixel[2]) / 255.0;
        }
    });
}

/// Subtracts the ImageNet mean and divides by its standard deviation, channel by channel.
pub fn normalize(image: &mut [f32]) {
    normalize_by(image, MEAN, STD);
}

/// Subtracts the mean and divides by the standard deviation of each channel.
pub fn normalize_by(image: &mut [f32], mean: [f32; 3], std: [f32; 3]) {
    let n = image.len() / 3;
    Arch::new().dispatch(|| {
        for ((plane, mean), std) in image.chunks_exact_mut(n).zip(mean).zip(std) {
            plane.iter_mut().for_each(|v| *v = (*v - mean) / std);
        }
    });
}
