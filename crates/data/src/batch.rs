//! Batches for features and probes: images as they are, or one view of each; normalised.

use burn_dataset::Dataset;
use rayon::prelude::*;
use ssl_backdoor_rng::Purpose;

use crate::augment::{Geometry, Scratch, ViewKey, Views, normalize_by, to_planes};
use crate::{DataError, Normalization, Sample};

/// A batch of images in the network's input layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// The values, row by row.
    pub values: Vec<f32>,
    /// `[batch, channels, height, width]`.
    pub shape: [usize; 4],
}

impl Pixels {
    /// `count` images of `side` pixels a side, all zero.
    pub(crate) fn blank(count: usize, side: u32) -> Self {
        let shape = [count, 3, side as usize, side as usize];
        Self { values: vec![0.0; shape.iter().product()], shape }
    }

    /// The values of one image.
    pub(crate) fn image_mut(&mut self, index: usize) -> &mut [f32] {
        let len = self.shape[1..].iter().product::<usize>();
        &mut self.values[index * len..(index + 1) * len]
    }
}

/// Samples `range` of `set` as they are, normalised, with their labels; read on all cores, because sets in
/// files are decoded here.
///
/// # Errors
/// An image cannot be read, or images have different sizes.
pub fn plain_batch(
    set: &dyn Dataset<Sample, DataError>,
    range: std::ops::Range<usize>,
) -> Result<(Pixels, Vec<u32>), DataError> {
    plain_batch_by(set, range, &Normalization::default())
}

/// The same, with the normalisation of an external encoder.
///
/// # Errors
/// As [`plain_batch`].
pub fn plain_batch_by(
    set: &dyn Dataset<Sample, DataError>,
    range: std::ops::Range<usize>,
    &Normalization { mean, std }: &Normalization,
) -> Result<(Pixels, Vec<u32>), DataError> {
    let count = range.len();
    let samples: Result<Vec<Sample>, DataError> =
        range.into_par_iter().map(|index| set.get(index)).collect();
    let samples = samples?;
    let (width, height) = samples.first().map_or((0, 0), |sample| sample.image.dimensions());
    let len = 3 * width as usize * height as usize;
    let mut values = vec![0.0; count * len];
    for (sample, out) in samples.iter().zip(values.chunks_exact_mut(len.max(1))) {
        let found = sample.image.dimensions();
        if found != (width, height) {
            return Err(DataError::Sizes { id: sample.id, found, expected: (width, height) });
        }
        to_planes(&sample.image, out);
        normalize_by(out, mean, std);
    }
    let labels = samples.iter().map(|sample| sample.label).collect();
    Ok((Pixels { values, shape: [count, 3, height as usize, width as usize] }, labels))
}

/// One view of each of the samples at `indices`, normalised, with their labels; keyed by (seed, purpose, epoch, image
/// id).
///
/// # Errors
/// An image cannot be read.
pub fn view_batch(
    set: &dyn Dataset<Sample, DataError>,
    views: &dyn Views,
    indices: &[usize],
    (seed, purpose, epoch): (u64, Purpose, u32),
) -> Result<(Pixels, Vec<u32>), DataError> {
    let side = views.size() as usize;
    let len = 3 * side * side;
    let mut values = vec![0.0; indices.len() * len];
    let one = |scratch: &mut Scratch, (&index, out): (&usize, &mut [f32])| {
        let Sample { id, image, label, .. } = set.get(index)?;
        let key = ViewKey { seed, purpose, epoch, id };
        views.write(&image, &key, scratch, &mut [out], &mut [Geometry::default()]);
        Ok(label)
    };
    let labels: Result<Vec<u32>, DataError> = indices
        .par_iter()
        .zip(values.par_chunks_exact_mut(len))
        .map_init(Scratch::default, one)
        .collect();
    Ok((Pixels { values, shape: [indices.len(), 3, side, side] }, labels?))
}
