//! Features of norm 1, and a check that they say anything.

use burn::tensor::Tensor;
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_model::{Encoder, l2_normalize};
use ssl_backdoor_probe::extract_normalized;

use crate::{ScanError, Setting};

/// Mean cosine from which clusters of features are meaningless. Features of untrained ResNets have 0.993 to 0.997.
pub(crate) const ALIKE: f64 = 0.9999;

/// Features of all images of a set, each divided by its L2 norm.
pub struct UnitFeatures {
    /// `[images, dim]`, row by row.
    pub values: Vec<f32>,
    /// Dimension of a feature.
    pub dim: usize,
}

impl UnitFeatures {
    /// The features of the images of `set`, in order.
    ///
    /// # Errors
    /// An image cannot be read, a feature is not finite, or the mean cosine is at least `most` (error of `scan`).
    pub fn of(
        encoder: &Encoder,
        set: &SampleSet,
        setting: &Setting<'_>,
        (scan, most): (&'static str, f64),
    ) -> Result<Self, ScanError> {
        let features = |images: Tensor<4>| vec![l2_normalize(encoder.forward(images))];
        let Setting { normalization, device, watch, .. } = setting;
        let all = extract_normalized(set, normalization, device, watch, features)?;
        let (mut values, mut dim) = (Vec::new(), 1);
        if let Some(features) = all.into_iter().next() {
            (values, dim) = (features.values, features.dim);
        }
        let unit = Self { values, dim };
        let cosine = unit.mean_cosine();
        if cosine >= most {
            return Err(ScanError::Alike { scan, cosine, most });
        }
        Ok(unit)
    }

    /// Number of features.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Whether there are no features.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The feature at `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// The mean cosine of two different features; 1 for fewer than two. A zero feature says nothing, so its cosine
    /// with any other counts as 1.
    fn mean_cosine(&self) -> f64 {
        let (n, mut sum, mut own, mut zeros) = (self.len(), vec![0.0f64; self.dim], 0.0, 0.0);
        for row in self.values.chunks_exact(self.dim) {
            let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            own += norm;
            zeros += f64::from(norm < 0.5);
            sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        if n < 2 {
            return 1.0;
        }
        let (n, total) = (n as f64, sum.iter().map(|v| v * v).sum::<f64>());
        // Pairs with at least one zero feature.
        let blank = n * (n - 1.0) - (n - zeros) * (n - zeros - 1.0).max(0.0);
        (total - own + blank) / (n * (n - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_cosine_is_of_pairs_and_zeros_are_like_all() {
        let of = |values: Vec<f32>| UnitFeatures { values, dim: 2 }.mean_cosine();
        assert_eq!(of(vec![1.0, 0.0]), 1.0);
        assert_eq!(of(vec![1.0, 0.0, 0.0, 1.0]), 0.0);
        assert!((of(vec![0.6, 0.8, 0.6, 0.8, 1.0, 0.0]) - (1.0 + 0.6 + 0.6) / 3.0).abs() < 1e-6);
        assert_eq!(of(vec![0.0; 6]), 1.0);
        assert_eq!(of(vec![0.0, 0.0, 1.0, 0.0, 0.0, 1.0]), 2.0 / 3.0);
    }
}
