//! Images that patches are pasted on, and how many of them change their cluster.

use burn::tensor::{Device, Tensor, TensorData};
use image::imageops;
use rand::RngExt;
use rayon::prelude::*;
use ssl_backdoor_data::augment::normalize_by;
use ssl_backdoor_data::{Normalization, SampleSet, Subset, plain_batch_by};
use ssl_backdoor_model::Encoder;
use ssl_backdoor_rng::keyed;

use crate::ScanError;
use crate::clusters::{CosineClusters, clusters_of};
use crate::features::UnitFeatures;
use crate::purpose::PASTE;

/// Number of images that are recorded of those that a patch moves into its cluster.
const KEPT: usize = 6;
/// Images in a forward pass.
pub(crate) const BATCH: usize = 250;

/// The images that candidate patches are pasted on.
pub struct FlipSet<'a> {
    encoder: &'a Encoder,
    columns: Tensor<2>,
    device: &'a Device,
    normalization: Normalization,
    seed: u64,
    /// Normalised, `[images, 3, side, side]`.
    pixels: Vec<f32>,
    side: usize,
    /// The position of each image in its set.
    positions: Vec<usize>,
    /// The cluster of each image without a patch.
    before: Vec<u32>,
}

/// The effect of a patch on the images that it is pasted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// How many more images belong to the cluster; may be negative.
    pub more: i64,
    /// Some of the images that moved into the cluster, by their positions in the set, ascending.
    pub some: Vec<usize>,
}

/// Positions of about `count` images: the same number near the centre of each cluster. If there are more clusters
/// than `count`, the nearest image of each of the first clusters.
pub(crate) fn near_centres(
    features: &UnitFeatures,
    clusters: &CosineClusters,
    count: usize,
) -> Vec<usize> {
    let each = (count / clusters.len()).max(1);
    let mut found: Vec<usize> =
        nearest_members(features, clusters, each).into_iter().flatten().take(count).collect();
    found.sort_unstable();
    found
}

/// Positions of the `most` images of each cluster that are nearest to its centre, the nearest first.
pub(crate) fn nearest_members(
    features: &UnitFeatures,
    clusters: &CosineClusters,
    most: usize,
) -> Vec<Vec<usize>> {
    let cosine = |image: usize, cluster: usize| {
        let centre = &clusters.centres[cluster * clusters.dim..][..clusters.dim];
        features.row(image).iter().zip(centre).map(|(a, b)| f64::from(a * b)).sum::<f64>()
    };
    let near = |(cluster, members): (usize, Vec<usize>)| {
        let mut members: Vec<(f64, usize)> =
            members.into_iter().map(|image| (cosine(image, cluster), image)).collect();
        members.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        members.into_iter().take(most).map(|(_, image)| image).collect()
    };
    clusters.members().into_iter().enumerate().map(near).collect()
}

impl<'a> FlipSet<'a> {
    /// The images of `set` at `positions`, which are squares of `side` pixels.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn new(
        encoder: &'a Encoder,
        clusters: &CosineClusters,
        (set, positions): (&SampleSet, Vec<usize>),
        (device, seed): (&'a Device, u64),
        normalization: Normalization,
    ) -> Result<Self, ScanError> {
        let some = Subset::new(set.clone(), positions.clone())?;
        let count = ssl_backdoor_data::Dataset::len(&some);
        let (pixels, _) = plain_batch_by(&some, 0..count, &normalization)?;
        let columns = clusters.columns(device);
        let (values, side) = (pixels.values, pixels.shape[2]);
        let mut flips = Self {
            encoder,
            columns,
            device,
            normalization,
            seed,
            pixels: values,
            side,
            positions,
            before: Vec::new(),
        };
        flips.before = flips.clusters(|_, _| {});
        Ok(flips)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.pixels.len() / (3 * self.side * self.side)
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Pastes `patch`, which is from the image `id`, on each image at its own place, and counts how many more images
    /// then belong to `cluster`. A patch that is larger than the images is cropped.
    pub fn flips(&self, patch: &image::RgbImage, id: u64, cluster: u32) -> Taken {
        let side = self.side as u32;
        let patch = imageops::crop_imm(patch, 0, 0, side, side).to_image();
        let (width, height) = (patch.width() as usize, patch.height() as usize);
        let mut values = vec![0.0; 3 * width * height];
        for (i, pixel) in patch.pixels().enumerate() {
            for (c, value) in pixel.0.into_iter().enumerate() {
                values[c * width * height + i] = f32::from(value) / 255.0;
            }
        }
        normalize_by(&mut values, self.normalization.mean, self.normalization.std);
        let side = self.side;
        let after = self.clusters(|image, pixels| {
            let mut rng = keyed(self.seed, PASTE, 0, id, image as u64);
            let x = rng.random_range(0..=side - width);
            let y = rng.random_range(0..=side - height);
            for (plane, patch) in
                pixels.chunks_exact_mut(side * side).zip(values.chunks_exact(width * height))
            {
                for (row, patch) in patch.chunks_exact(width).enumerate() {
                    plane[(y + row) * side + x..][..width].copy_from_slice(patch);
                }
            }
        });
        let of = |all: &[u32]| all.iter().filter(|&&one| one == cluster).count() as i64;
        let came = after.iter().zip(&self.before).zip(&self.positions);
        let came = came.filter(|((after, before), _)| **after == cluster && **before != cluster);
        let some = came.map(|(_, position)| *position).take(KEPT).collect();
        Taken { more: of(&after) - of(&self.before), some }
    }

    /// The cluster of each image after `change`, which gets the image's number and pixels.
    fn clusters(&self, change: impl Fn(usize, &mut [f32]) + Sync) -> Vec<u32> {
        let len = 3 * self.side * self.side;
        let mut found = Vec::with_capacity(self.len());
        for (batch, pixels) in self.pixels.chunks(BATCH * len).enumerate() {
            let mut pixels = pixels.to_vec();
            pixels
                .par_chunks_exact_mut(len)
                .enumerate()
                .for_each(|(i, image)| change(batch * BATCH + i, image));
            let shape = [pixels.len() / len, 3, self.side, self.side];
            let images = Tensor::from_data(TensorData::new(pixels, shape), self.device);
            found.extend(clusters_of(self.encoder, images, &self.columns));
        }
        found
    }
}
