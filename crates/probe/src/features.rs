//! Frozen features of a set of images.

use burn::tensor::{Device, Tensor, TensorData};
use ssl_backdoor_data::{SampleSet, plain_batch};
use ssl_backdoor_model::ResNet;

use crate::ProbeError;

/// Images in a forward pass.
const BATCH: usize = 250;

/// Features of a set of images with their labels, in the set's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// `[images, dim]`, row by row.
    pub values: Vec<f32>,
    /// Length of a feature.
    pub dim: usize,
    /// Class of each image.
    pub labels: Vec<u32>,
}

/// Pooled features of every image of `set`, without augmentation; `encoder` is in evaluation mode
/// on `device` (without autodiff).
///
/// # Errors
/// An image that cannot be read, or a feature that is not finite.
pub fn extract(encoder: &ResNet, set: &SampleSet, device: &Device) -> Result<Features, ProbeError> {
    let mut features = Features { values: Vec::new(), dim: 0, labels: Vec::new() };
    for first in (0..set.len()).step_by(BATCH) {
        let (pixels, labels) = plain_batch(set.as_ref(), first..set.len().min(first + BATCH))?;
        let images = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), device);
        let out = encoder.forward(images);
        features.dim = out.dims()[1];
        let values: Vec<f32> = out.into_data().iter::<f32>().collect();
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let (image, index) = (first + at / features.dim, at % features.dim);
            return Err(ProbeError::NotFinite { image, index, value: values[at] });
        }
        features.values.extend(values);
        features.labels.extend(labels);
    }
    Ok(features)
}
