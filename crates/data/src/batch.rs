//! Plain batches for features: no augmentation, normalised.

use burn_dataset::Dataset;
use rayon::prelude::*;

use crate::augment::{normalize, to_planes};
use crate::{DataError, Sample};

/// A batch of images as the network takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// The values, row by row.
    pub values: Vec<f32>,
    /// `[batch, channels, height, width]`.
    pub shape: [usize; 4],
}

/// Samples `range` of `set` as they are, normalised, with their labels; read on all cores, because sets in
/// files are decoded here.
///
/// # Errors
/// Whatever reading an image gives, or images of different sizes.
pub fn plain_batch(
    set: &dyn Dataset<Sample, DataError>,
    range: std::ops::Range<usize>,
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
        normalize(out);
    }
    let labels = samples.iter().map(|sample| sample.label).collect();
    Ok((Pixels { values, shape: [count, 3, height as usize, width as usize] }, labels))
}
