//! Clusters as a classifier: an image belongs to the cluster whose mean has the largest cosine with its feature.

use burn::tensor::{Device, Tensor};
use ssl_backdoor_model::{Encoder, init, l2_normalize};

use crate::ScanError;
use crate::features::UnitFeatures;
use crate::kmeans::{kmeans, nearest};
use crate::purpose::CENTRES;

/// Rounds of k-means, as in PatchSearch.
const ROUNDS: usize = 20;

/// Directions of clusters of features.
pub struct CosineClusters {
    /// Means of norm 1, `[clusters, dim]`, row by row.
    pub centres: Vec<f32>,
    /// Dimension of a mean.
    pub dim: usize,
    /// Cluster of each feature from which they were computed.
    pub labels: Vec<u32>,
}

impl CosineClusters {
    /// Clusters `features` by k-means, the best of `starts` starts.
    ///
    /// # Errors
    /// As [`kmeans`].
    pub fn new(
        features: &UnitFeatures,
        clusters: usize,
        starts: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ScanError> {
        let UnitFeatures { values, dim } = features;
        let found = kmeans((values, *dim), clusters, (starts, ROUNDS), (seed, CENTRES), device)?;
        let mut centres = found.centres;
        for centre in centres.chunks_exact_mut(*dim) {
            let norm = centre.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
            centre.iter_mut().for_each(|v| *v /= norm);
        }
        // For points and centres of norm 1, the nearest centre is the one with the largest cosine.
        let labels = nearest((values, *dim), &centres, device).0;
        Ok(Self { centres, dim: *dim, labels })
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.centres.len() / self.dim
    }

    /// Whether there are no clusters.
    pub fn is_empty(&self) -> bool {
        self.centres.is_empty()
    }

    /// The centres as columns, `[dim, clusters]`.
    pub fn columns(&self, device: &Device) -> Tensor<2> {
        init::matrix(self.centres.clone(), self.dim, device).transpose()
    }

    /// The images of each cluster, ascending.
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.len()];
        for (image, &label) in self.labels.iter().enumerate() {
            members[label as usize].push(image);
        }
        members
    }
}

/// The cluster of each of the normalised `images`; `columns` come from [`CosineClusters::columns`].
pub(crate) fn clusters_of(encoder: &Encoder, images: Tensor<4>, columns: &Tensor<2>) -> Vec<u32> {
    let cosines = l2_normalize(encoder.forward(images)).matmul(columns.clone());
    top(cosines)
}

/// The column of the largest value of each row, or the first one in case of a tie.
pub(crate) fn top(cosines: Tensor<2>) -> Vec<u32> {
    let [_, columns] = cosines.dims();
    let values: Vec<f32> = cosines.into_data().iter().collect();
    let best = |row: &[f32]| {
        (1..columns).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32
    };
    values.chunks_exact(columns.max(1)).map(best).collect()
}
