//! k-means by Lloyd's iteration.

use burn::tensor::{Device, Tensor, TensorData};
use rand::seq::index;
use ssl_backdoor_rng::{Purpose, keyed};

use crate::ScanError;

/// Points in one matrix product.
const ROWS: usize = 4096;

/// Points divided into clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// The means, `[clusters, dim]`, row by row.
    pub centres: Vec<f32>,
    /// Cluster of each point: that of the nearest centre, or the first one in case of a tie.
    pub labels: Vec<u32>,
    /// Sum of the squared distances of the points to their centres.
    pub inertia: f64,
}

impl Clusters {
    /// How many points each cluster has.
    pub fn sizes(&self, clusters: usize) -> Vec<usize> {
        let mut sizes = vec![0; clusters];
        for &label in &self.labels {
            sizes[label as usize] += 1;
        }
        sizes
    }
}

/// Divides `points` (`[n, dim]`, row by row) into `clusters` clusters: the best of `starts` runs of [`lloyd`] with
/// `rounds` rounds, each from points drawn at random by (`seed`, `purpose`).
///
/// # Errors
/// [`ScanError::Distinct`] if there are fewer different points than clusters.
pub fn kmeans(
    points: (&[f32], usize),
    clusters: usize,
    (starts, rounds): (usize, usize),
    (seed, purpose): (u64, Purpose),
    device: &Device,
) -> Result<Clusters, ScanError> {
    let (values, dim) = points;
    let distinct = distinct(values, dim);
    if distinct.len() < clusters.max(1) {
        return Err(ScanError::Distinct { distinct: distinct.len(), clusters });
    }
    let mut best: Option<Clusters> = None;
    for start in 0..starts.max(1) {
        let mut rng = keyed(seed, purpose, 0, clusters as u64, start as u64);
        let drawn = index::sample(&mut rng, distinct.len(), clusters);
        let centres = drawn.iter().flat_map(|i| row(values, dim, distinct[i]).iter().copied());
        let found = lloyd(points, centres.collect(), rounds, device);
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    best.ok_or(ScanError::Distinct { distinct: 0, clusters })
}

/// Positions of the points that differ from all before them, in order.
fn distinct(values: &[f32], dim: usize) -> Vec<usize> {
    let mut seen = std::collections::HashSet::new();
    let bits = |row: &[f32]| -> Vec<u32> { row.iter().map(|v| v.to_bits()).collect() };
    let rows = values.chunks_exact(dim.max(1)).enumerate();
    rows.filter(|(_, row)| seen.insert(bits(row))).map(|(i, _)| i).collect()
}

/// Lloyd's iteration from these centres: each point goes to its nearest centre, each centre to the mean of its points,
/// for `rounds` rounds or until no point changes its cluster. A centre without points moves to the point that lies
/// farthest from its own centre, as in scikit-learn.
pub fn lloyd(
    (values, dim): (&[f32], usize),
    mut centres: Vec<f32>,
    rounds: usize,
    device: &Device,
) -> Clusters {
    let (mut labels, mut distances) = nearest((values, dim), &centres, device);
    for _ in 0..rounds {
        update((values, dim), &labels, &mut distances, &mut centres);
        let (new, now) = nearest((values, dim), &centres, device);
        distances = now;
        if new == labels {
            break;
        }
        labels = new;
    }
    Clusters { centres, labels, inertia: distances.iter().sum() }
}

/// Moves each centre to the mean of its points. No two empty centres move to the same point.
fn update(
    (values, dim): (&[f32], usize),
    labels: &[u32],
    distances: &mut [f64],
    centres: &mut [f32],
) {
    let clusters = centres.len() / dim;
    let (mut sums, mut counts) = (vec![0.0f64; centres.len()], vec![0usize; clusters]);
    for (point, &label) in values.chunks_exact(dim).zip(labels) {
        let cluster = label as usize;
        counts[cluster] += 1;
        let sum = &mut sums[cluster * dim..][..dim];
        sum.iter_mut().zip(point).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    for (cluster, centre) in centres.chunks_exact_mut(dim).enumerate() {
        if counts[cluster] == 0 {
            let far = (0..distances.len())
                .max_by(|&a, &b| distances[a].total_cmp(&distances[b]).then(b.cmp(&a)));
            if let Some(far) = far {
                centre.copy_from_slice(row(values, dim, far));
                distances[far] = -1.0;
            }
            continue;
        }
        let sum = &sums[cluster * dim..][..dim];
        for (to, sum) in centre.iter_mut().zip(sum) {
            *to = (sum / counts[cluster] as f64) as f32;
        }
    }
}

/// The nearest centre of each point, and the squared distance to it.
pub(crate) fn nearest(
    (values, dim): (&[f32], usize),
    centres: &[f32],
    device: &Device,
) -> (Vec<u32>, Vec<f64>) {
    let clusters = centres.len() / dim.max(1);
    let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    let apart =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let norms: Vec<f64> = centres.chunks_exact(dim).map(norm).collect();
    let device = device.clone().without_autodiff();
    let matrix = |values: &[f32]| {
        let rows = values.len() / dim;
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, dim]), &device)
    };
    let across = matrix(centres).transpose();
    let (mut labels, mut distances) = (Vec::new(), Vec::new());
    for some in values.chunks(ROWS * dim) {
        let products: Vec<f32> = matrix(some).matmul(across.clone()).into_data().iter().collect();
        for (point, products) in some.chunks_exact(dim).zip(products.chunks_exact(clusters)) {
            let far = |cluster: usize| norms[cluster] - 2.0 * f64::from(products[cluster]);
            let best = (1..clusters).fold(0, |best, c| if far(c) < far(best) { c } else { best });
            labels.push(best as u32);
            distances.push(apart(point, row(centres, dim, best)));
        }
    }
    (labels, distances)
}

fn row(values: &[f32], dim: usize, index: usize) -> &[f32] {
    &values[index * dim..][..dim]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::purpose::CENTRES;

    #[derive(Deserialize)]
    struct Golden {
        dim: usize,
        points: Vec<f32>,
        start: Vec<f32>,
        centres: Vec<f32>,
        labels: Vec<u32>,
        inertia: f64,
        rounds: usize,
    }

    /// Against scikit-learn (`tests/fixtures/kmeans.py`).
    #[test]
    fn lloyd_is_scikit_learns() {
        let cases: Vec<Golden> =
            serde_json::from_str(include_str!("../tests/fixtures/kmeans.json")).unwrap();
        assert_eq!(cases.len(), 3);
        for Golden { dim, points, start, centres, labels, inertia, rounds } in cases {
            let found = lloyd((&points, dim), start, rounds, &Device::flex());
            assert_eq!(found.labels, labels);
            assert!((found.inertia / inertia - 1.0).abs() < 1e-5, "{} {inertia}", found.inertia);
            for (a, b) in found.centres.iter().zip(&centres) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }

    #[test]
    fn a_centre_without_points_takes_the_farthest_one() {
        let points = [0.0, 1.0, 2.0, 30.0];
        let found = lloyd((&points, 1), vec![1.0, 100.0, 101.0], 20, &Device::flex());
        assert!(found.sizes(3).iter().all(|&size| size > 0), "{found:?}");
        assert_eq!(found.labels[3], 1);
    }

    #[test]
    fn several_starts_are_no_worse_and_too_few_points_are_named() {
        let points: Vec<f32> =
            (0..60).map(|i| (i % 3) as f32 * 10.0 + (i * 7 % 5) as f32 * 0.1).collect();
        let of = |clusters, starts| {
            let key = (3, CENTRES);
            kmeans((&points, 1), clusters, (starts, 20), key, &Device::flex())
        };
        assert!(of(3, 10).unwrap().inertia <= of(3, 1).unwrap().inertia);
        assert_eq!(of(3, 4).unwrap(), of(3, 4).unwrap());
        assert_eq!(of(15, 2).unwrap().inertia, 0.0);
        let message = of(16, 1).unwrap_err().to_string();
        assert!(message.contains("15 different features, too few for 16 clusters"), "{message}");
    }
}
