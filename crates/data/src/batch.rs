//! Plain batches for features: no augmentation, normalised.

use burn_dataset::Dataset;

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

/// Samples `range` of `set` as they are, normalised, with their labels.
///
/// # Errors
/// Whatever reading an image gives.
pub fn plain_batch(
    set: &dyn Dataset<Sample, DataError>,
    range: std::ops::Range<usize>,
) -> Result<(Pixels, Vec<u32>), DataError> {
    let mut values = Vec::new();
    let mut labels = Vec::with_capacity(range.len());
    let mut shape = [range.len(), 3, 0, 0];
    for (i, index) in range.clone().enumerate() {
        let Sample { image, label, .. } = set.get(index)?;
        let image_len = image.as_raw().len();
        if i == 0 {
            shape = [range.len(), 3, image.height() as usize, image.width() as usize];
            values = vec![0.0; range.len() * image_len];
        }
        let out = &mut values[i * image_len..(i + 1) * image_len];
        to_planes(&image, out);
        normalize(out);
        labels.push(label);
    }
    Ok((Pixels { values, shape }, labels))
}
