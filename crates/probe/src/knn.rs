//! k-nearest-neighbour classification of frozen features (protocol 4): nothing is trained.

use burn::tensor::{Device, Tensor, s};
use rayon::prelude::*;
use ssl_backdoor_model::{init, l2_normalize};

use crate::Features;

/// How neighbours vote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vote {
    /// One vote each (the reference's).
    Majority,
    /// e^(cosine / temperature) each (Wu et al., 2018).
    Weighted {
        /// Above 0; 0.07 to 0.2 are usual.
        temperature: f32,
    },
}

/// Evaluation features whose distances are computed at once.
const BLOCK: usize = 256;

/// The class of each of `eval` by its nearest neighbours among `labelled`, for each k of `ks`, with all
/// features divided by their L2 norm: `[k][image]`. Equal votes go to the lowest class; of equally near
/// neighbours the first counts as nearer. A k larger than the labelled set takes all of it.
pub fn knn(
    labelled: &Features,
    eval: &Features,
    classes: usize,
    ks: &[usize],
    vote: Vote,
    device: &Device,
) -> Vec<Vec<u32>> {
    let rows = |features: &Features| {
        l2_normalize(init::matrix(features.values.clone(), features.dim, device))
    };
    let (train, eval_rows) = (rows(labelled).transpose(), rows(eval));
    let (count, most) = (labelled.labels.len(), ks.iter().copied().max().unwrap_or(0));
    let mut found = vec![Vec::with_capacity(eval.labels.len()); ks.len()];
    for first in (0..eval.labels.len()).step_by(BLOCK) {
        let last = eval.labels.len().min(first + BLOCK);
        let block: Tensor<2> = eval_rows.clone().slice(s![first..last, ..]);
        let cosines: Vec<f32> = block.matmul(train.clone()).into_data().iter::<f32>().collect();
        let votes: Vec<Vec<u32>> = cosines
            .par_chunks(count.max(1))
            .map(|row| {
                let nearest = nearest(row, most);
                ks.iter().map(|&k| elect(row, &nearest, labelled, classes, k, vote)).collect()
            })
            .collect();
        for classes in votes {
            found.iter_mut().zip(classes).for_each(|(found, class)| found.push(class));
        }
    }
    found
}

/// The places of the `k` largest of `row`, the largest first.
fn nearest(row: &[f32], k: usize) -> Vec<usize> {
    let order = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
    let mut places: Vec<usize> = (0..row.len()).collect();
    if k < places.len() && k > 0 {
        places.select_nth_unstable_by(k - 1, order);
        places.truncate(k);
    }
    places.sort_unstable_by(order);
    places
}

fn elect(
    row: &[f32],
    nearest: &[usize],
    labelled: &Features,
    classes: usize,
    k: usize,
    vote: Vote,
) -> u32 {
    let mut votes = vec![0.0f64; classes];
    for &place in nearest.iter().take(k) {
        votes[labelled.labels[place] as usize] += match vote {
            Vote::Majority => 1.0,
            Vote::Weighted { temperature } => f64::from(row[place] / temperature).exp(),
        };
    }
    let better = |best: usize, class: usize| if votes[class] > votes[best] { class } else { best };
    (0..classes).reduce(better).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(angles: &[(f32, u32)]) -> Features {
        let values = angles.iter().flat_map(|(angle, _)| [angle.cos() * 3.0, angle.sin() * 3.0]);
        let labels = angles.iter().map(|(_, label)| *label).collect();
        Features { values: values.collect(), dim: 2, labels }
    }

    #[test]
    fn the_nearest_vote_and_the_lowest_class_wins_a_tie() {
        let labelled = points(&[(0.0, 2), (0.1, 1), (0.25, 1), (1.5, 0)]);
        let eval = points(&[(0.02, 2)]);
        let found = |vote| knn(&labelled, &eval, 3, &[1, 2, 3, 9], vote, &Device::flex()).concat();
        assert_eq!(found(Vote::Majority), [2, 1, 1, 1]);
        // At a low temperature the nearest outweighs the two behind it.
        assert_eq!(found(Vote::Weighted { temperature: 0.01 }), [2, 2, 2, 2]);
    }
}
