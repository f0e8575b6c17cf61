//! Spherical k-means, with which DeepCluster v2 groups embeddings (Caron et al., arXiv 2006.09882, appendix A.1;
//! k-means on the sphere: Hornik et al., Journal of Statistical Software 2012).

use burn::tensor::{Tensor, s};
use rand::seq::SliceRandom;
use ssl_backdoor_model::{init, l2_normalize};
use ssl_backdoor_rng::ChaCha8Rng;

/// Number of rows whose similarities to all centres are in memory at a time.
const CHUNK: usize = 8192;

/// Centres of norm 1, and the nearest one of each row.
pub(crate) struct Clusters {
    /// `[clusters, dim]`.
    pub centres: Tensor<2>,
    /// Index of the nearest centre, by row.
    pub nearest: Vec<usize>,
}

/// Groups the `rows`, `[count, dim]` of norm 1. The centres start as `clusters` rows drawn without replacement. In
/// each of `iterations` steps a centre becomes the mean of the rows nearest to it, divided by its norm; a centre
/// without rows stays. Sums are computed on the host, row by row, so that every device adds in the same order.
pub(crate) fn spherical_kmeans(
    rows: &Tensor<2>,
    clusters: usize,
    iterations: usize,
    rng: &mut ChaCha8Rng,
) -> Clusters {
    let device = rows.device();
    let [count, dim] = rows.dims();
    let values: Vec<f32> = rows.to_data().iter::<f32>().collect();
    let first = starts(count, clusters, rng);
    let picked = first.iter().flat_map(|row| &values[row * dim..(row + 1) * dim]);
    let mut centres: Vec<f32> = picked.copied().collect();
    let tensor = |centres: &[f32]| init::matrix(centres.to_vec(), dim, &device);
    for _ in 0..iterations {
        let nearest = nearest(rows, &tensor(&centres));
        move_to_means(&mut centres, &values, &nearest, dim);
        centres = l2_normalize(tensor(&centres)).into_data().iter::<f32>().collect();
    }
    let centres = tensor(&centres);
    let nearest = nearest(rows, &centres);
    Clusters { centres, nearest }
}

/// Indices, below `count`, of the rows at which the centres start.
pub(crate) fn starts(count: usize, clusters: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..count).collect();
    rows.shuffle(rng);
    rows.truncate(clusters);
    rows
}

/// Moves each centre that has rows to their mean.
fn move_to_means(centres: &mut [f32], values: &[f32], nearest: &[usize], dim: usize) {
    let mut sums = vec![0f64; centres.len()];
    let mut counts = vec![0usize; centres.len() / dim];
    for (row, &at) in values.chunks_exact(dim).zip(nearest) {
        counts[at] += 1;
        let sum = &mut sums[at * dim..(at + 1) * dim];
        sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    let all = centres.chunks_exact_mut(dim).zip(sums.chunks_exact(dim)).zip(counts);
    for ((centre, sum), count) in all.filter(|(_, count)| *count > 0) {
        centre.iter_mut().zip(sum).for_each(|(v, sum)| *v = (sum / count as f64) as f32);
    }
}

/// For each row, the centre with the largest dot product; the first of equal ones.
fn nearest(rows: &Tensor<2>, centres: &Tensor<2>) -> Vec<usize> {
    let count = rows.dims()[0];
    let chunk = |start: usize| {
        let end = (start + CHUNK).min(count);
        let part = rows.clone().slice(s![start..end, ..]).matmul(centres.clone().transpose());
        part.argmax(1).into_data().iter::<i64>().map(|at| at as usize).collect::<Vec<_>>()
    };
    (0..count).step_by(CHUNK).flat_map(chunk).collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ssl_backdoor_rng::keyed;

    use super::*;
    use crate::purpose::CLUSTERS;

    fn rng() -> ChaCha8Rng {
        keyed(1, CLUSTERS, 0, 0, 0)
    }

    #[test]
    fn groups_around_directions_are_found_and_centres_have_norm_one() {
        let device = Device::flex();
        let mut noise = keyed(2, CLUSTERS, 0, 0, 0);
        let directions = [[1.0f32, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]];
        let noise = init::normals(3 * 60, &mut noise);
        let rows = noise.chunks_exact(3).enumerate().flat_map(|(i, noise)| {
            let direction = directions[i % 3];
            (0..3).map(move |axis| direction[axis] + 0.1 * noise[axis])
        });
        let rows = l2_normalize(init::matrix(rows.collect(), 3, &device));
        // With this seed, the centres start at one row of each direction.
        assert_eq!(
            starts(60, 3, &mut rng()).iter().map(|row| row % 3).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        let found = spherical_kmeans(&rows, 3, 10, &mut rng());
        // Rows of one direction are in one cluster, rows of different directions in different ones.
        let of: Vec<usize> = (0..3).map(|i| found.nearest[i]).collect();
        assert!(of[0] != of[1] && of[1] != of[2] && of[0] != of[2], "{of:?}");
        assert!(found.nearest.iter().enumerate().all(|(i, &at)| at == of[i % 3]));
        let norms: Vec<f32> =
            found.centres.clone().powi_scalar(2).sum_dim(1).into_data().try_to_vec().unwrap();
        assert!(norms.iter().all(|norm| (norm - 1.0).abs() < 1e-5), "{norms:?}");
        let again = spherical_kmeans(&rows, 3, 10, &mut rng());
        assert_eq!(again.centres.into_data(), found.centres.into_data());
    }

    /// Two centres start at the same place: the second never has a row, and stays.
    #[test]
    fn a_centre_without_rows_stays() {
        let mut centres = vec![1.0f32, 0.0, 1.0, 0.0];
        let values = [0.6f32, 0.8, 0.8, 0.6];
        move_to_means(&mut centres, &values, &[0, 0], 2);
        let near = |(found, wanted): (&f32, f32)| (found - wanted).abs() < 1e-6;
        assert!(centres.iter().zip([0.7, 0.7, 1.0, 0.0]).all(near), "{centres:?}");
    }
}
