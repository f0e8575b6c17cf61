//! The classifier of PatchSearch: small networks that learn to tell images with one of the best patches from others,
//! and then classify all images.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData, activation};
use image::{RgbImage, imageops};
use rand::RngExt;
use rayon::prelude::*;
use ssl_backdoor_data::augment::{
    Chain, ChainViews, Filter, Geometry, Scratch, ViewKey, Views, random_resized_crop_box,
    resize_crop_box,
};
use ssl_backdoor_data::{DataError, Normalization, Pixels, SampleSet, Subset, plain_batch_by};
use ssl_backdoor_model::{Mlp, ResNet, Stem};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{OptimizerConfig, WeightDecayScope, cross_entropy};

use crate::paste::BATCH;
use crate::purpose::{PATCH_NET, PATCH_STEP, PATCH_VIEW};
use crate::{ScanError, Setting};

/// Up to this side the networks are narrow and see every pixel.
pub(crate) const SMALL: u32 = 64;
/// Images in a step.
const STEP: usize = 32;
/// Share of them that carries a patch.
const PATCHED: f64 = 0.5;
/// Share of an image's area that a crop takes.
const CROP: (f64, f64) = (0.2, 1.0);
/// Learning rate before the cosine schedule, momentum and weight decay.
const RATE: f64 = 0.01;
const MOMENTUM: f64 = 0.9;
const DECAY: f64 = 1e-4;
/// Steps between two evaluations on the known images.
const CHECK: usize = 20;
/// Training ends when this many evaluations in a row give the same result.
const PATIENCE: usize = 10;

/// Tells images with a patch from others.
#[derive(Module, Debug)]
struct PatchNet {
    body: ResNet,
    head: Mlp,
}

impl PatchNet {
    fn new(size: u32, seed: u64, network: u64, device: &Device) -> Self {
        let mut rng = keyed(seed, PATCH_NET, 0, 0, network);
        let (width, stem) = if size <= SMALL { (16, Stem::Small) } else { (64, Stem::Imagenet) };
        let body = ResNet::of_basic_blocks([1; 4], (width, stem), &mut rng, device);
        let head = Mlp::new(&[8 * width, 2], &mut rng, device);
        Self { body, head }
    }

    /// `[batch, 3, side, side]` to the logits `[batch, 2]`: without a patch and with one.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.head.forward(self.body.forward(images))
    }
}

/// What the networks are trained and evaluated on.
pub(crate) struct PatchTask<'a> {
    pub set: &'a SampleSet,
    /// Positions of images that are assumed to carry no patch.
    pub clean: &'a [usize],
    pub patches: &'a [&'a RgbImage],
    /// Positions of the images that the patches are from, and of as many images without a patch.
    pub known: [&'a [usize]; 2],
    /// Side of the images.
    pub size: u32,
    /// Largest number of steps of a training.
    pub steps: usize,
    pub setting: &'a Setting<'a>,
}

/// The networks' scores of all images.
pub(crate) struct Verdicts {
    /// Mean probability over the networks that an image carries a patch, by position.
    pub probability: Vec<f64>,
    /// The mean of the networks' F1 on the known images, 0 to 1.
    pub f1: f64,
    /// The mean number of steps that they took.
    pub steps: f64,
}

impl PatchTask<'_> {
    /// Trains `networks` networks, each of which then classifies every image of the set.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn run(&self, networks: usize) -> Result<Verdicts, ScanError> {
        let images = self.set.len();
        let (mut sum, mut f1, mut steps) = (vec![0.0; images], 0.0, 0);
        let watch = |done: usize| {
            (self.setting.watch)("learning patches", done, networks * self.steps);
        };
        for network in 0..networks {
            let (trained, taken) =
                self.train(network as u64, &|step| watch(network * self.steps + step))?;
            steps += taken;
            f1 += self.f1(&trained)?;
            for first in (0..images).step_by(BATCH) {
                let some: Vec<usize> = (first..images.min(first + BATCH)).collect();
                let probability = self.probability(&trained, &some)?;
                sum[first..].iter_mut().zip(probability).for_each(|(sum, p)| *sum += p);
            }
        }
        watch(networks * self.steps);
        let networks = networks as f64;
        let probability = sum.into_iter().map(|sum| sum / networks).collect();
        Ok(Verdicts { probability, f1: f1 / networks, steps: steps as f64 / networks })
    }

    /// Trains one network. Returns it in evaluation mode, and the number of steps that it took.
    fn train(&self, network: u64, watch: &dyn Fn(usize)) -> Result<(PatchNet, usize), ScanError> {
        let Setting { device, seed, .. } = *self.setting;
        let device = device.clone().without_autodiff().autodiff();
        let mut net = PatchNet::new(self.size, seed, network, &device);
        let sgd = OptimizerConfig::Sgd { momentum: MOMENTUM };
        let mut optimizer = sgd.build(DECAY, WeightDecayScope::All, &net);
        let mut looks: Vec<u32> = Vec::new();
        for step in 0..self.steps {
            let (pixels, labels) = self.step(step as u32, network)?;
            let images = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &device);
            let labels = Tensor::from_data(TensorData::new(labels, [STEP]), &device);
            let loss = cross_entropy(net.forward(images), labels);
            let grads = GradientsParams::from_grads(loss.backward(), &net);
            let done = step as f64 / self.steps as f64;
            let rate = RATE * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            net = optimizer.step(rate, net, grads);
            watch(step + 1);
            if (step + 1).is_multiple_of(CHECK) {
                looks.push((100.0 * self.f1(&net.valid())?).round() as u32);
                let last = &looks[looks.len().saturating_sub(PATIENCE)..];
                if last.len() == PATIENCE && last.iter().all(|look| *look == last[0]) {
                    return Ok((net.valid(), step + 1));
                }
            }
        }
        Ok((net.valid(), self.steps))
    }

    /// The images of a step, about half of them with a patch, and a label for each: 1 with a patch, 0 without.
    fn step(&self, step: u32, network: u64) -> Result<(Pixels, Vec<i64>), DataError> {
        let Setting { seed, normalization, .. } = *self.setting;
        let side = self.size as usize;
        let len = 3 * side * side;
        let mut values = vec![0.0; STEP * len];
        // The colour augmentations of a MoCo v2 view, on the whole image.
        let views = ChainViews(vec![Chain::moco(self.size, (1.0, 1.0), false)]);
        let one = |(i, out): (usize, &mut [f32])| {
            let id = network * STEP as u64 + i as u64;
            let mut rng = keyed(seed, PATCH_STEP, step, id, 0);
            let image = self.set.get(self.clean[rng.random_range(0..self.clean.len())])?.image;
            let crop = random_resized_crop_box(image.dimensions(), CROP, &mut rng);
            let mut image = resize_crop_box(&image, crop, self.size, Filter::Bilinear);
            let patched = rng.random_bool(PATCHED);
            if patched {
                let patch = self.patches[rng.random_range(0..self.patches.len())];
                paste(&mut image, patch, &mut rng);
            }
            let key = ViewKey { seed, purpose: PATCH_VIEW, epoch: step, id };
            let mut geometry = [Geometry::default()];
            views.write(&image, &key, &mut Scratch::default(), &mut [&mut *out], &mut geometry);
            renormalize(out, &normalization);
            Ok(i64::from(patched))
        };
        let labels: Result<Vec<i64>, DataError> =
            values.par_chunks_exact_mut(len).enumerate().map(one).collect();
        Ok((Pixels { values, shape: [STEP, 3, side, side] }, labels?))
    }

    /// The F1 of a network on the known images, 0 to 1.
    fn f1(&self, net: &PatchNet) -> Result<f64, ScanError> {
        let called = |images: &[usize]| -> Result<usize, ScanError> {
            Ok(self.probability(net, images)?.iter().filter(|p| **p > 0.5).count())
        };
        let [with, without] = self.known;
        let (right, wrong) = (called(with)?, called(without)?);
        // 2 · right / (2 · right + false alarms + misses)
        Ok(2.0 * right as f64 / ((right + wrong + with.len()) as f64).max(1.0))
    }

    /// The probability that each of the images at `positions` carries a patch.
    fn probability(&self, net: &PatchNet, positions: &[usize]) -> Result<Vec<f64>, ScanError> {
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let some = Subset::new(self.set.clone(), positions.to_vec())?;
        let (pixels, _) = plain_batch_by(&some, 0..positions.len(), &self.setting.normalization)?;
        let device = self.setting.device.clone().without_autodiff();
        let images = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &device);
        let values: Vec<f32> =
            activation::softmax(net.forward(images), 1).into_data().iter().collect();
        Ok(values.chunks_exact(2).map(|pair| f64::from(pair[1])).collect())
    }
}

/// The smallest and the largest side of a pasted patch, and its distance from the edges, for an image of `side`
/// pixels: 20, 79 and 10 of 224, as published.
fn pasted_sides(side: u32) -> (u32, u32, u32) {
    let of = |pixels: f64| (pixels * f64::from(side) / 224.0).round() as u32;
    let least = of(20.0).clamp(2, side);
    (least, of(79.0).clamp(least, side), of(10.0))
}

/// Pastes `patch`, resized to a random side, at a random place on `image`, which is square.
fn paste(image: &mut RgbImage, patch: &RgbImage, rng: &mut impl rand::Rng) {
    let side = image.width();
    let (least, most, margin) = pasted_sides(side);
    let new = rng.random_range(least..=most);
    let margin = margin.min((side - new) / 2);
    let mut place = || rng.random_range(margin..=side - new - margin);
    let (x, y) = (place(), place());
    let patch = imageops::resize(patch, new, new, imageops::FilterType::Triangle);
    imageops::replace(image, &patch, x.into(), y.into());
}

/// Converts from ImageNet's normalisation, which views have, to that of the encoder's images.
fn renormalize(planes: &mut [f32], to: &Normalization) {
    let from = Normalization::default();
    if from == *to {
        return;
    }
    let len = planes.len() / 3;
    for (c, plane) in planes.chunks_exact_mut(len).enumerate() {
        plane
            .iter_mut()
            .for_each(|v| *v = (*v * from.std[c] + from.mean[c] - to.mean[c]) / to.std[c]);
    }
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use ssl_backdoor_data::augment::normalize_by;

    use super::*;

    #[test]
    fn patches_scale_with_the_view_and_stay_inside() {
        assert_eq!(pasted_sides(224), (20, 79, 10));
        assert_eq!(pasted_sides(32), (3, 11, 1));
        for side in [8, 28, 32, 224] {
            for id in 0..50 {
                let mut image = RgbImage::new(side, side);
                let patch = RgbImage::from_pixel(9, 9, Rgb([255; 3]));
                paste(&mut image, &patch, &mut keyed(1, PATCH_STEP, 0, id, 0));
                let (least, most, margin) = pasted_sides(side);
                let white: Vec<(u32, u32)> = image
                    .enumerate_pixels()
                    .filter(|(_, _, pixel)| pixel.0 == [255; 3])
                    .map(|(x, y, _)| (x, y))
                    .collect();
                let count = white.len() as u32;
                assert!((least * least..=most * most).contains(&count), "{side}: {count}");
                assert!(white.iter().all(|(x, y)| (margin..side - margin).contains(x)
                    && (margin..side - margin).contains(y)));
            }
        }
    }

    #[test]
    fn views_get_the_encoders_normalisation() {
        let other = Normalization { mean: [0.1, 0.2, 0.3], std: [0.5, 1.0, 2.0] };
        let plain: Vec<f32> = (0..12).map(|v| v as f32 / 12.0).collect();
        let (mut views, mut wanted) = (plain.clone(), plain);
        let Normalization { mean, std } = Normalization::default();
        normalize_by(&mut views, mean, std);
        renormalize(&mut views, &other);
        normalize_by(&mut wanted, other.mean, other.std);
        views.iter().zip(wanted).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} {b}"));
    }
}
