//! Selection by clusters: k-means on the features, and the first images of the smallest cluster that has enough. The
//! authors use mini-batches; here every step uses all images, so that their order within a step changes only the
//! rounding of the sums.

use rand::RngExt;
use rayon::prelude::*;
use ssl_backdoor_rng::{ChaCha8Rng, keyed};

use crate::purpose;

/// Largest number of steps of Lloyd's algorithm.
const STEPS: usize = 100;
/// Number of starts; the one with the smallest sum of squares is used.
const STARTS: u64 = 4;

/// The positions of the first `count` images of the smallest of `clusters` clusters that has as many; `None` if none
/// has. `values` is `[images, dim]`, and there are at least `clusters` images.
pub(super) fn smallest(
    values: &[f32],
    dim: usize,
    clusters: usize,
    count: usize,
    seed: u64,
) -> Option<Vec<usize>> {
    let rows: Vec<&[f32]> = values.chunks_exact(dim).collect();
    let starts = (0..STARTS).map(|start| {
        let mut rng = keyed(seed, purpose::CLUSTERS, 0, start, 0);
        lloyd(&rows, spread(&rows, clusters, &mut rng))
    });
    let (_, assigned) = starts.reduce(|best, next| if next.0 < best.0 { next } else { best })?;
    let mut sizes = vec![0usize; clusters];
    assigned.iter().for_each(|&cluster| sizes[cluster] += 1);
    let chosen = (0..clusters).filter(|&c| sizes[c] >= count).min_by_key(|&c| sizes[c])?;
    let members = assigned.iter().enumerate().filter(|(_, cluster)| **cluster == chosen);
    Some(members.map(|(i, _)| i).take(count).collect())
}

/// Squared distance of a row to a centre.
fn distance(row: &[f32], centre: &[f64]) -> f64 {
    row.iter().zip(centre).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum()
}

fn as_centre(row: &[f32]) -> Vec<f64> {
    row.iter().map(|v| f64::from(*v)).collect()
}

/// Centres by k-means++: the first is drawn uniformly, each further one with a probability proportional to its
/// squared distance from the nearest centre so far.
fn spread(rows: &[&[f32]], clusters: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let mut centres = vec![as_centre(rows[rng.random_range(0..rows.len())])];
    let mut nearest = vec![f64::INFINITY; rows.len()];
    while centres.len() < clusters {
        let last = &centres[centres.len() - 1];
        nearest
            .par_iter_mut()
            .zip(rows)
            .for_each(|(nearest, row)| *nearest = nearest.min(distance(row, last)));
        let mut left = rng.random_range(0.0..1.0) * nearest.iter().sum::<f64>();
        let drawn = nearest.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        // If all rows are already centres, any row will do.
        centres.push(as_centre(rows[drawn.unwrap_or(centres.len() % rows.len())]));
    }
    centres
}

/// Lloyd's algorithm from `centres`. Returns the sum of squares and the cluster of each row. A cluster without rows
/// keeps its centre.
fn lloyd(rows: &[&[f32]], mut centres: Vec<Vec<f64>>) -> (f64, Vec<usize>) {
    let assign = |centres: &[Vec<f64>]| -> Vec<(f64, usize)> {
        let nearest = |row: &&[f32]| {
            let distances =
                centres.iter().enumerate().map(|(c, centre)| (distance(row, centre), c));
            distances.fold((f64::INFINITY, 0), |best, one| if one.0 < best.0 { one } else { best })
        };
        rows.par_iter().map(nearest).collect()
    };
    let mut found = assign(&centres);
    for _ in 0..STEPS {
        let mut sums = vec![(0usize, vec![0.0; centres[0].len()]); centres.len()];
        for ((_, cluster), row) in found.iter().zip(rows) {
            let (count, sum) = &mut sums[*cluster];
            *count += 1;
            sum.iter_mut().zip(*row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        for (centre, (count, sum)) in centres.iter_mut().zip(sums).filter(|(_, (n, _))| *n > 0) {
            *centre = sum.into_iter().map(|sum| sum / count as f64).collect();
        }
        let next = assign(&centres);
        let same = next.iter().zip(&found).all(|(a, b)| a.1 == b.1);
        found = next;
        if same {
            break;
        }
    }
    (found.iter().map(|(square, _)| square).sum(), found.into_iter().map(|(_, c)| c).collect())
}
