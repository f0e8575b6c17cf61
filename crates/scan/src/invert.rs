//! Trigger inversion, the common part of DECREE and SSL-Cleanse: a mask and a pattern that make an encoder see the
//! same in all images.

use burn::module::{Module, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use image::{Rgb, RgbImage};
use rand::RngExt;
use ssl_backdoor_data::{Normalization, SampleSet, Subset, plain_batch_by};
use ssl_backdoor_rng::{keyed, ranked};
use ssl_backdoor_ssl::{OptimizerConfig, WeightDecayScope};

use crate::purpose::{SHADOWS, TRIGGER_ORDER, TRIGGER_START};
use crate::{Frozen, ScanError, Setting};

/// A reconstructed trigger: its mask and its pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// Side of the images in pixels.
    pub side: usize,
    /// How much of the trigger each pixel shows, 0 to 1, row by row.
    pub mask: Vec<f32>,
    /// Its colours, 0 to 1, `[3, side, side]`.
    pub pattern: Vec<f32>,
}

impl Trigger {
    /// Share of the image that it covers: the mean of the mask, 0 to 1.
    pub fn area(&self) -> f64 {
        let sum: f64 = self.mask.iter().map(|v| f64::from(*v)).sum();
        sum / self.mask.len().max(1) as f64
    }

    /// The trigger on grey.
    pub fn picture(&self) -> RgbImage {
        let side = self.side as u32;
        RgbImage::from_fn(side, side, |x, y| {
            let at = y as usize * self.side + x as usize;
            let mask = self.mask[at];
            Rgb([0, 1, 2].map(|c| {
                let pattern = self.pattern[c * self.side * self.side + at];
                (255.0 * (mask * pattern + (1.0 - mask) * 0.5)).round().clamp(0.0, 255.0) as u8
            }))
        })
    }
}

/// The result of an inversion.
#[derive(Debug, Clone, PartialEq)]
pub struct Inverted {
    /// The smallest trigger that works; `None` if none was found.
    pub trigger: Option<Trigger>,
    /// Rounds that it took.
    pub rounds: usize,
}

impl Inverted {
    /// Share of the image that the trigger covers, 0 to 1; 1 if none was found, as a full mask always works.
    pub fn area(&self) -> f64 {
        self.trigger.as_ref().map_or(1.0, Trigger::area)
    }
}

/// Features of images `[batch, 3, side, side]` in 0 to 1, with gradients.
pub(crate) type Features<'a> = dyn Fn(Tensor<4>) -> Tensor<2> + 'a;

/// Images that are shown to an encoder, in memory, with values in 0 to 1.
pub(crate) struct Shadows {
    /// `[images, 3, side, side]`
    pub pixels: Vec<f32>,
    pub side: usize,
}

impl Shadows {
    /// Draws `count` images of `set` by the seed, or all if there are fewer. Also returns them as a set.
    ///
    /// # Errors
    /// An image cannot be read or has another size than the first.
    pub fn draw(set: &SampleSet, count: usize, seed: u64) -> Result<(Self, SampleSet), ScanError> {
        let drawn = drawn(set.len(), count, seed);
        let count = drawn.len();
        let some = Subset::new(set.clone(), drawn)?;
        let as_they_are = Normalization { mean: [0.0; 3], std: [1.0; 3] };
        let (pixels, _) = plain_batch_by(&some, 0..count, &as_they_are)?;
        let side = pixels.shape[2];
        Ok((Self { pixels: pixels.values, side }, std::sync::Arc::new(some)))
    }

    pub fn len(&self) -> usize {
        self.pixels.len() / (3 * self.side * self.side)
    }

    /// The images at these positions.
    pub fn batch(&self, positions: &[usize], device: &Device) -> Tensor<4> {
        let len = 3 * self.side * self.side;
        let values: Vec<f32> =
            positions.iter().flat_map(|i| self.pixels[i * len..][..len].iter().copied()).collect();
        let shape = [positions.len(), 3, self.side, self.side];
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

/// Positions of `count` of `images` images, drawn by the seed, ascending; all if there are fewer.
pub(crate) fn drawn(images: usize, count: usize, seed: u64) -> Vec<usize> {
    let all: Vec<u64> = (0..images as u64).collect();
    let drawn = ranked(&all, seed, SHADOWS, 0).into_iter().take(count);
    let mut drawn: Vec<usize> = drawn.map(|position| position as usize).collect();
    drawn.sort_unstable();
    drawn
}

/// The features of `encoder`, in the form of [`Features`].
pub(crate) fn features_of<'a>(
    encoder: &'a Frozen,
    setting: &'a Setting<'_>,
) -> impl Fn(Tensor<4>) -> Tensor<2> + 'a {
    |images| encoder.features(images, &setting.normalization)
}

/// `positions` in batches of `batch`, in an order drawn by (`seed`, `round`). A last batch of one image is left out.
pub(crate) fn batches(
    positions: &[usize],
    batch: usize,
    (seed, round): (u64, usize),
) -> Vec<Vec<usize>> {
    let ids: Vec<u64> = positions.iter().map(|&position| position as u64).collect();
    let order: Vec<usize> = ranked(&ids, seed, TRIGGER_ORDER, round as u32)
        .into_iter()
        .map(|position| position as usize)
        .collect();
    order.chunks(batch).filter(|batch| batch.len() > 1).map(<[usize]>::to_vec).collect()
}

/// Mask and pattern during an inversion. A hyperbolic tangent maps both to 0 to 1.
#[derive(Module, Debug)]
struct Unsqueezed {
    /// `[side, side]`
    mask: Param<Tensor<2>>,
    /// `[3, side, side]`
    pattern: Param<Tensor<3>>,
}

fn squeezed<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    values.tanh().mul_scalar(0.5).add_scalar(0.5)
}

/// An inversion in progress.
pub struct Inversion {
    found: Unsqueezed,
    optimizer: ModuleOptimizer,
}

impl Inversion {
    /// Starts from mask and pattern uniform in 0 to 1, drawn by (`seed`, `number`); uses Adam with betas 0.5 and 0.9.
    pub fn new(side: usize, (seed, number): (u64, u64), device: &Device) -> Self {
        let mut rng = keyed(seed, TRIGGER_START, 0, number, 0);
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count).map(|_| (2.0 * rng.random_range(0.001f32..0.999) - 1.0).atanh()).collect()
        };
        let mask = TensorData::new(draw(side * side), [side, side]);
        let pattern = TensorData::new(draw(3 * side * side), [3, side, side]);
        let (mask, pattern) = (Tensor::from_data(mask, device), Tensor::from_data(pattern, device));
        let found = Unsqueezed {
            mask: Param::initialized(ParamId::new(), mask.require_grad()),
            pattern: Param::initialized(ParamId::new(), pattern.require_grad()),
        };
        let adam = OptimizerConfig::Adam { betas: [0.5, 0.9] };
        let optimizer = adam.build(0.0, WeightDecayScope::All, &found);
        Self { found, optimizer }
    }

    /// `images` with the trigger, `[batch, 3, side, side]`.
    pub fn on(&self, images: Tensor<4>) -> Tensor<4> {
        let mask = squeezed(self.found.mask.val()).unsqueeze::<4>();
        let pattern = squeezed(self.found.pattern.val()).unsqueeze::<4>();
        images * (mask.clone().neg().add_scalar(1.0)) + mask * pattern
    }

    /// The mean of the mask, `[1]`.
    pub fn area(&self) -> Tensor<1> {
        squeezed(self.found.mask.val()).mean()
    }

    /// Takes an optimisation step that decreases `loss`.
    pub fn step(&mut self, loss: Tensor<1>, rate: f64) {
        let grads = GradientsParams::from_grads(loss.backward(), &self.found);
        self.found = self.optimizer.step(rate, self.found.clone(), grads);
    }

    /// The current trigger.
    pub fn trigger(&self) -> Trigger {
        let mask = squeezed(self.found.mask.val().inner());
        let side = mask.dims()[0];
        let pattern = squeezed(self.found.pattern.val().inner());
        Trigger {
            side,
            mask: mask.into_data().iter().collect(),
            pattern: pattern.into_data().iter().collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod planted {
    //! An encoder with a known backdoor.

    use super::*;
    use burn::tensor::activation::sigmoid;
    use ssl_backdoor_model::init;

    /// Side of its images.
    pub const SIDE: usize = 16;
    /// The corner and the side of the patch that it looks for.
    pub const PATCH: (usize, usize, usize) = (10, 3, 4);

    /// Features of dimension 24: random sums of the pixels and, with a backdoor, a direction that a white patch at
    /// [`PATCH`] adds.
    pub fn features(backdoored: bool, device: &Device) -> impl Fn(Tensor<4>) -> Tensor<2> {
        let (x, y, side) = PATCH;
        let mut rng = keyed(9, TRIGGER_START, 1, 0, 0);
        let weights = init::normals(3 * SIDE * SIDE * 24, &mut rng);
        let weights = init::matrix(weights, 24, device);
        let direction: Vec<f32> = (0..24).map(|i| if i == 5 { 400.0 } else { 0.0 }).collect();
        let direction = init::matrix(direction, 24, device);
        move |images: Tensor<4>| {
            let [batch, ..] = images.dims();
            let patch = images.clone().slice([0..batch, 0..3, y..y + side, x..x + side]);
            let white = patch.reshape([batch, 3 * side * side]).mean_dim(1);
            let plain = images.sub_scalar(0.5).reshape([batch, 3 * SIDE * SIDE]);
            let plain = plain.matmul(weights.clone());
            if backdoored {
                // 0.1 for noise, 0.95 for a white patch.
                let called = sigmoid(white.sub_scalar(0.7).mul_scalar(10.0));
                plain + called.matmul(direction.clone())
            } else {
                plain
            }
        }
    }

    /// `count` images of noise.
    pub fn shadows(count: usize) -> Shadows {
        let mut rng = keyed(4, TRIGGER_START, 2, 0, 0);
        let pixels = (0..count * 3 * SIDE * SIDE).map(|_| rng.random_range(0.0f32..1.0));
        Shadows { pixels: pixels.collect(), side: SIDE }
    }

    /// `count` images with a little noise; channel i mod 3 of image i is brighter by 0.25.
    pub fn coloured(count: usize) -> Shadows {
        let mut rng = keyed(4, TRIGGER_START, 3, 0, 0);
        let mut pixels = Vec::new();
        for plane in 0..count * 3 {
            let own = if plane % 3 == (plane / 3) % 3 { 0.25 } else { 0.0 };
            let level = rng.random_range(0.1f32..0.4) + own;
            pixels.extend((0..SIDE * SIDE).map(|_| level + rng.random_range(-0.1f32..0.1)));
        }
        Shadows { pixels, side: SIDE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_shows_the_pattern_where_the_mask_is_and_grey_elsewhere() {
        let mut pattern = vec![1.0; 4];
        pattern.extend(vec![0.0; 8]);
        let trigger = Trigger { side: 2, mask: vec![1.0, 0.0, 0.5, 0.0], pattern };
        let picture = trigger.picture();
        assert_eq!(picture.get_pixel(0, 0).0, [255, 0, 0]);
        assert_eq!(picture.get_pixel(1, 0).0, [128, 128, 128]);
        assert_eq!(picture.get_pixel(0, 1).0, [191, 64, 64]);
        assert_eq!(trigger.area(), 0.375);
        assert_eq!(Inverted { trigger: None, rounds: 3 }.area(), 1.0);
    }

    #[test]
    fn batches_hold_every_image_once_and_no_image_is_alone() {
        let positions: Vec<usize> = (0..9).map(|i| 2 * i).collect();
        let found = batches(&positions, 4, (1, 0));
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        let mut all = batches(&positions, 3, (1, 0)).concat();
        assert_ne!(all, positions);
        assert_ne!(all, batches(&positions, 3, (1, 1)).concat());
        all.sort_unstable();
        assert_eq!(all, positions);
    }
}
