//! Frozen features of a set of images.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use ssl_backdoor_data::{Normalization, SampleSet, plain_batch_by};
use ssl_backdoor_model::Encoder;

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
pub fn extract(
    encoder: &Encoder,
    set: &SampleSet,
    device: &Device,
) -> Result<Features, ProbeError> {
    let mut one = extract_by(set, device, |images| vec![encoder.forward(images)])?;
    Ok(one.swap_remove(0))
}

/// The same for any number of kinds of features at once: `of` takes `[batch, 3, size, size]` and gives
/// `[batch, dim]` of each kind.
///
/// # Errors
/// As [`extract`].
pub fn extract_by(
    set: &SampleSet,
    device: &Device,
    of: impl Fn(Tensor<4>) -> Vec<Tensor<2>>,
) -> Result<Vec<Features>, ProbeError> {
    extract_normalized(set, &Normalization::default(), device, of)
}

/// The same of images that are normalised by `normalization`, as an encoder from elsewhere asks for.
///
/// # Errors
/// As [`extract`].
pub fn extract_normalized(
    set: &SampleSet,
    normalization: &Normalization,
    device: &Device,
    of: impl Fn(Tensor<4>) -> Vec<Tensor<2>>,
) -> Result<Vec<Features>, ProbeError> {
    let mut all: Vec<Features> = Vec::new();
    for first in (0..set.len()).step_by(BATCH) {
        let (pixels, labels) =
            plain_batch_by(set.as_ref(), first..set.len().min(first + BATCH), normalization)?;
        let images = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), device);
        let out = of(images);
        let blank = |_| Features { values: Vec::new(), dim: 0, labels: Vec::new() };
        if all.is_empty() {
            all = out.iter().map(blank).collect();
        }
        for (features, out) in all.iter_mut().zip(out) {
            features.dim = out.dims()[1];
            let values: Vec<f32> = out.into_data().iter::<f32>().collect();
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                let (image, index) = (first + at / features.dim, at % features.dim);
                return Err(ProbeError::NotFinite { image, index, value: values[at] });
            }
            features.values.extend(values);
            features.labels.extend(&labels);
        }
    }
    Ok(all)
}

/// Names in a features file.
const VALUES: &str = "features";
const LABELS: &str = "labels";

impl Features {
    /// The features in `rows`, in that order.
    pub fn rows(&self, rows: &[usize]) -> Self {
        let row = |&row: &usize| &self.values[row * self.dim..(row + 1) * self.dim];
        Self {
            values: rows.iter().flat_map(row).copied().collect(),
            dim: self.dim,
            labels: rows.iter().map(|&row| self.labels[row]).collect(),
        }
    }

    /// The bytes of a features file: safetensors with `features` (`[images, dim]`, F32) and `labels`
    /// (`[images]`, U32).
    ///
    /// # Errors
    /// [`ProbeError::Features`] if the shapes do not fit each other.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProbeError> {
        let wrong = |e: safetensors::SafeTensorError| ProbeError::Features(e.to_string());
        let values: Vec<u8> = self.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let labels: Vec<u8> = self.labels.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = vec![self.labels.len(), self.dim];
        let views = [
            (VALUES, TensorView::new(Dtype::F32, shape, &values).map_err(wrong)?),
            (LABELS, TensorView::new(Dtype::U32, vec![self.labels.len()], &labels).map_err(wrong)?),
        ];
        serialize(views, None).map_err(wrong)
    }

    /// Reads a features file.
    ///
    /// # Errors
    /// [`ProbeError::File`] if it is absent, broken, or holds something else.
    pub fn read(path: &Path) -> Result<Self, ProbeError> {
        let wrong = |reason: String| ProbeError::File { path: path.into(), reason };
        let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
        let tensor = |name: &str, dtype| {
            let found = file.tensor(name).map_err(|e| wrong(e.to_string()))?;
            if found.dtype() != dtype {
                return Err(wrong(format!("`{name}` is {:?}, not {dtype:?}", found.dtype())));
            }
            Ok(found)
        };
        let (values, labels) = (tensor(VALUES, Dtype::F32)?, tensor(LABELS, Dtype::U32)?);
        let [images, dim] = *values.shape() else {
            return Err(wrong(format!(
                "`{VALUES}` has shape {:?}, not [images, dim]",
                values.shape()
            )));
        };
        if labels.shape() != [images] {
            return Err(wrong(format!("{:?} labels for {images} images", labels.shape())));
        }
        let words = |bytes: &[u8]| -> Vec<[u8; 4]> {
            bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
        };
        Ok(Self {
            values: words(values.data()).into_iter().map(f32::from_le_bytes).collect(),
            dim,
            labels: words(labels.data()).into_iter().map(u32::from_le_bytes).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_back_what_was_written_and_a_broken_one_says_so() {
        let features =
            Features { values: vec![1.5, -2.0, 0.0, 1e-9, 3.0, 7.0], dim: 3, labels: vec![4, 9] };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clean.safetensors");
        let bytes = features.to_bytes().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Features::read(&path).unwrap(), features);
        let second = features.rows(&[1]);
        assert_eq!((second.values, second.labels), (vec![1e-9, 3.0, 7.0], vec![9]));
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let message = Features::read(&path).unwrap_err().to_string();
        assert!(message.contains("clean.safetensors"), "{message}");
    }
}
