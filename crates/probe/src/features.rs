//! Frozen features of a set of images.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use ssl_backdoor_data::augment::Filter;
use ssl_backdoor_data::{Normalization, SampleSet, Watch, plain_batch_by};
use ssl_backdoor_model::{Encoder, Interpolation, Preprocessing};

use crate::ProbeError;

/// Images per forward pass.
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
/// [`ProbeError::Empty`] for a set without images, [`ProbeError::NotFinite`] for a feature that is not finite, and
/// [`ProbeError::Data`] for an image that cannot be read.
pub fn extract(
    encoder: &Encoder,
    set: &SampleSet,
    device: &Device,
) -> Result<Features, ProbeError> {
    let one = extract_by(set, device, |images| vec![encoder.forward(images)])?;
    one.into_iter().next().ok_or(ProbeError::Empty { what: IMAGES })
}

/// Like [`extract`], for any number of kinds of features at once: `of` takes `[batch, 3, size, size]` and returns
/// `[batch, dim]` for each kind.
///
/// # Errors
/// As [`extract`], and [`ProbeError::Count`] if `of` does not return one row per image, or if the number of kinds or
/// the length of a row changes between batches.
pub fn extract_by(
    set: &SampleSet,
    device: &Device,
    of: impl Fn(Tensor<4>) -> Vec<Tensor<2>>,
) -> Result<Vec<Features>, ProbeError> {
    extract_normalized(set, &Normalization::default(), device, &|_, _, _| (), of)
}

/// The filter that resizes evaluation images as `preprocessing` says.
#[must_use]
pub fn evaluation_filter(preprocessing: &Preprocessing) -> Filter {
    match preprocessing.interpolation {
        Interpolation::Bilinear => Filter::Bilinear,
        Interpolation::Bicubic => Filter::Bicubic,
    }
}

/// Like [`extract_by`], with another `normalization` of the images, for an external encoder. `watch` is called
/// before each batch and at the end.
///
/// # Errors
/// As [`extract_by`].
pub fn extract_normalized(
    set: &SampleSet,
    normalization: &Normalization,
    device: &Device,
    watch: &Watch<'_>,
    of: impl Fn(Tensor<4>) -> Vec<Tensor<2>>,
) -> Result<Vec<Features>, ProbeError> {
    if set.is_empty() {
        return Err(ProbeError::Empty { what: IMAGES });
    }
    let mut all: Vec<Features> = Vec::new();
    for first in (0..set.len()).step_by(BATCH) {
        watch(WORK, first, set.len());
        let end = set.len().min(first + BATCH);
        let (pixels, labels) = plain_batch_by(set.as_ref(), first..end, normalization)?;
        let images = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), device);
        let out = of(images);
        if first == 0 {
            let blank = |out: &Tensor<2>| Features {
                values: Vec::new(),
                dim: out.dims()[1],
                labels: Vec::new(),
            };
            all = out.iter().map(blank).collect();
        }
        count("kinds of features", out.len(), all.len())?;
        for (features, out) in all.iter_mut().zip(out) {
            let [rows, dim] = out.dims();
            count("rows of features", rows, labels.len())?;
            count("values in a feature", dim, features.dim)?;
            let values: Vec<f32> = out.into_data().iter::<f32>().collect();
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                let (image, index) = (first + at / features.dim, at % features.dim);
                return Err(ProbeError::NotFinite { image, index, value: values[at] });
            }
            features.values.extend(values);
            features.labels.extend(&labels);
        }
    }
    watch(WORK, set.len(), set.len());
    Ok(all)
}

/// Name of the work, for its progress.
const WORK: &str = "features";

/// What an empty set lacks, for the error.
const IMAGES: &str = "images to extract features of";

/// Checks that `found` equals `expected`.
pub(crate) fn count(what: &'static str, found: usize, expected: usize) -> Result<(), ProbeError> {
    if found == expected {
        return Ok(());
    }
    Err(ProbeError::Count { what, found, expected })
}

/// Checks that every label is below `classes`.
pub(crate) fn check_labels(labels: &[u32], classes: usize) -> Result<(), ProbeError> {
    match labels.iter().position(|&label| label as usize >= classes) {
        None => Ok(()),
        Some(image) => Err(ProbeError::Label { image, label: labels[image], classes }),
    }
}

/// Names of the tensors in a features file.
const VALUES: &str = "features";
const LABELS: &str = "labels";

impl Features {
    /// The features in `rows`, in that order.
    ///
    /// # Errors
    /// [`ProbeError::Row`] for a row that does not exist.
    pub fn rows(&self, rows: &[usize]) -> Result<Self, ProbeError> {
        let mut some = Self { values: Vec::new(), dim: self.dim, labels: Vec::new() };
        for &row in rows {
            let values = self.values.chunks_exact(self.dim.max(1)).nth(row);
            let Some((values, &label)) = values.zip(self.labels.get(row)) else {
                return Err(ProbeError::Row { row, rows: self.labels.len() });
            };
            some.values.extend_from_slice(values);
            some.labels.push(label);
        }
        Ok(some)
    }

    /// Checks that there are images, that each has `dim` values, and that all values are finite. `what` names the
    /// images in the error.
    pub(crate) fn check(&self, what: &'static str, dim: usize) -> Result<(), ProbeError> {
        let Self { values, labels, .. } = self;
        if labels.is_empty() || self.dim == 0 {
            return Err(ProbeError::Empty { what });
        }
        count("values in a feature", self.dim, dim)?;
        count("feature values", values.len(), labels.len().saturating_mul(dim))?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => {
                Err(ProbeError::NotFinite { image: at / dim, index: at % dim, value: values[at] })
            }
        }
    }

    /// [Checks](Self::check) the images that a probe learns from: their labels must be below `classes` too.
    pub(crate) fn check_labelled(&self, classes: usize) -> Result<(), ProbeError> {
        self.check("labelled images", self.dim)?;
        check_labels(&self.labels, classes)
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
    /// [`ProbeError::File`] if it is absent or broken, or contains something else.
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
        let second = features.rows(&[1]).unwrap();
        assert_eq!((second.values, second.labels), (vec![1e-9, 3.0, 7.0], vec![9]));
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let message = Features::read(&path).unwrap_err().to_string();
        assert!(message.contains("clean.safetensors"), "{message}");
    }

    #[test]
    fn review_2_01_an_empty_set_has_no_features() {
        use ssl_backdoor_data::{DataConfig, Shapes, Subset};
        let shapes = Shapes {
            size: 8,
            native: None,
            per_class: 1,
            eval_per_class: 1,
            seed: 1,
            eval: Default::default(),
        };
        let all = DataConfig::Shapes(shapes).load(&|_, _, _| {}).unwrap().labelled_prepared;
        let none: SampleSet = std::sync::Arc::new(Subset::new(all.clone(), Vec::new()).unwrap());
        let device = Device::flex();
        let flat = |images: Tensor<4>| vec![images.flatten::<2>(1, 3)];
        let error = |set: &SampleSet, of: &dyn Fn(Tensor<4>) -> Vec<Tensor<2>>| {
            extract_by(set, &device, of).unwrap_err().to_string()
        };
        assert!(error(&none, &flat).contains("no images to extract features of"));
        let features = extract_by(&all, &device, flat).unwrap();
        assert_eq!((features.len(), features[0].dim, features[0].labels.len()), (1, 192, 10));
        // Fewer rows than images.
        let half = |images: Tensor<4>| vec![images.flatten::<2>(1, 3).narrow(0, 0, 5)];
        assert!(error(&all, &half).contains("5 rows of features, expected 10"));
        let broken = |images: Tensor<4>| vec![images.flatten::<2>(1, 3).mul_scalar(f32::NAN)];
        assert!(error(&all, &broken).contains("feature 0 of image 0 is NaN"));
    }

    #[test]
    fn review_2_06_rows_and_features_that_do_not_exist_are_errors() {
        let features = Features { values: vec![1.0; 4], dim: 2, labels: vec![0, 1] };
        assert!(features.rows(&[1, 2]).unwrap_err().to_string().contains("row 2 of 2"));
        assert!(features.rows(&[]).unwrap().labels.is_empty());
        let short = Features { values: vec![1.0; 3], ..features.clone() };
        assert!(short.rows(&[1]).is_err());
        assert!(short.to_bytes().is_err());
        let blank = Features { values: Vec::new(), dim: 0, labels: vec![0] };
        assert!(blank.rows(&[0]).is_err());
    }
}
