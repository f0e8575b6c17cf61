//! k-nearest-neighbour classification of frozen features (docs/protocol.md, 4): nothing is trained.

use std::cell::LazyCell;

use burn::tensor::{Device, Tensor, s};
use rand::Rng;
use rayon::prelude::*;
use ssl_backdoor_fields::require;
use ssl_backdoor_model::{init, l2_normalize};
use ssl_backdoor_rng::keyed;

use crate::purpose;
use crate::{Features, ProbeError};

/// How neighbours vote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vote {
    /// One vote each, as in the reference.
    Majority,
    /// e^(cosine / temperature) each (Wu et al., 2018).
    Weighted {
        /// Above 0; 0.07 to 0.2 are usual.
        temperature: f32,
    },
}

/// Number of evaluation features whose distances are computed at once.
const BLOCK: usize = 256;

/// Checks that `k` neighbours can be chosen among `labelled` images: at least one, and fewer than `labelled`. If all
/// labelled images vote, the prediction does not depend on the image.
///
/// # Errors
/// [`ProbeError::Range`] for 0 neighbours, [`ProbeError::Neighbours`] if there are not more than `k` labelled images.
pub fn check_neighbours(k: usize, labelled: usize) -> Result<(), ProbeError> {
    require(k > 0, "k", k, "1 or more neighbours")?;
    if k >= labelled {
        return Err(ProbeError::Neighbours { k, labelled });
    }
    Ok(())
}

/// Classifies each image of `eval` by its nearest neighbours among `labelled`, for each k of `ks`. All features are
/// L2-normalised. Returns `[k][image]`.
///
/// Among classes with equal votes, that of the nearest neighbour wins. Labelled images at exactly the same distance
/// are put in a random order, drawn for each image of `eval`, so that no class gains from its place in the list. The
/// draw depends only on the positions.
///
/// # Errors
/// - [`ProbeError::Range`] or [`ProbeError::Neighbours`] for a `k` that is 0 or not below the number of labelled
///   images, and [`ProbeError::Range`] for a temperature that is not above 0
/// - [`ProbeError::Empty`], [`ProbeError::Count`] or [`ProbeError::NotFinite`] for features that are absent, of the
///   wrong length, or not finite
/// - [`ProbeError::Label`] for a label that is not below `classes`
pub fn knn(
    labelled: &Features,
    eval: &Features,
    classes: usize,
    ks: &[usize],
    vote: Vote,
    device: &Device,
) -> Result<Vec<Vec<u32>>, ProbeError> {
    labelled.check_labelled(classes)?;
    eval.check("images to classify", labelled.dim)?;
    let count = labelled.labels.len();
    ks.iter().try_for_each(|&k| check_neighbours(k, count))?;
    if let Vote::Weighted { temperature } = vote {
        let fits = temperature > 0.0 && temperature.is_finite();
        require(fits, "temperature", temperature, "above 0")?;
    }
    let rows = |features: &Features| {
        l2_normalize(init::matrix(features.values.clone(), features.dim, device))
    };
    let (train, eval_rows) = (rows(labelled).transpose(), rows(eval));
    let most = ks.iter().copied().max().unwrap_or(0);
    let mut found = vec![Vec::with_capacity(eval.labels.len()); ks.len()];
    for first in (0..eval.labels.len()).step_by(BLOCK) {
        let last = eval.labels.len().min(first + BLOCK);
        let block: Tensor<2> = eval_rows.clone().slice(s![first..last, ..]);
        let cosines: Vec<f32> = block.matmul(train.clone()).into_data().iter::<f32>().collect();
        let votes: Vec<Vec<u32>> = cosines
            .par_chunks(count)
            .zip(first..last)
            .map(|(row, image)| {
                let nearest = nearest(row, most, image as u64);
                ks.iter().map(|&k| elect(row, &nearest[..k], labelled, classes, vote)).collect()
            })
            .collect();
        for classes in votes {
            found.iter_mut().zip(classes).for_each(|(found, class)| found.push(class));
        }
    }
    Ok(found)
}

/// The indices of the `k` largest values of `row`, largest first; ties are in a random order drawn for `image`.
fn nearest(row: &[f32], k: usize, image: u64) -> Vec<usize> {
    let draws = LazyCell::new(|| {
        let mut rng = keyed(0, purpose::NEIGHBOURS, 0, image, 0);
        row.iter().map(|_| rng.next_u64()).collect::<Vec<u64>>()
    });
    let order =
        |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then_with(|| draws[*a].cmp(&draws[*b]));
    let mut places: Vec<usize> = (0..row.len()).collect();
    if (1..places.len()).contains(&k) {
        places.select_nth_unstable_by(k - 1, &order);
        places.truncate(k);
    }
    places.sort_unstable_by(&order);
    places
}

/// The class that the neighbours `nearest` (nearest first) vote for; ties go to the class of the nearest.
fn elect(row: &[f32], nearest: &[usize], labelled: &Features, classes: usize, vote: Vote) -> u32 {
    let class = |place: usize| labelled.labels[place] as usize;
    // Relative to the nearest, so that no temperature overflows. Summed in order of distance, so that classes with
    // equally near neighbours get the same sum.
    let first = nearest.first().map_or(0.0, |&place| row[place]);
    let mut votes = vec![0.0f64; classes];
    for &place in nearest {
        votes[class(place)] += match vote {
            Vote::Majority => 1.0,
            Vote::Weighted { temperature } => {
                (f64::from(row[place] - first) / f64::from(temperature)).exp()
            }
        };
    }
    // Candidates in order of distance: a later one needs more votes, not as many.
    let better = |best: usize, place: usize| {
        if votes[class(place)] > votes[best] { class(place) } else { best }
    };
    let mut places = nearest.iter().copied();
    let start = places.next().map_or(0, class);
    places.fold(start, better) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(angles: &[(f32, u32)]) -> Features {
        let values = angles.iter().flat_map(|(angle, _)| [angle.cos() * 3.0, angle.sin() * 3.0]);
        let labels = angles.iter().map(|(_, label)| *label).collect();
        Features { values: values.collect(), dim: 2, labels }
    }

    fn classes(labelled: &Features, eval: &Features, ks: &[usize], vote: Vote) -> Vec<u32> {
        knn(labelled, eval, 3, ks, vote, &Device::flex()).unwrap().concat()
    }

    #[test]
    fn field_f04_equal_votes_go_to_the_class_of_the_nearest() {
        let labelled = points(&[(0.0, 2), (0.1, 1), (0.25, 1), (1.5, 0)]);
        let eval = points(&[(0.02, 2)]);
        let found = |vote| classes(&labelled, &eval, &[1, 2, 3], vote);
        // Of two neighbours, of classes 2 and 1, the nearer is of class 2.
        assert_eq!(found(Vote::Majority), [2, 2, 1]);
        // At a low temperature the nearest outweighs the two behind it.
        assert_eq!(found(Vote::Weighted { temperature: 0.01 }), [2, 2, 2]);
        // The numbers of the classes do not matter: the same points with 0 and 2 swapped.
        let swapped = points(&[(0.0, 0), (0.1, 1), (0.25, 1), (1.5, 2)]);
        assert_eq!(classes(&swapped, &eval, &[1, 2, 3], Vote::Majority), [0, 0, 1]);
        // Two neighbours of each class: majority votes tie, and the nearer class wins both kinds of vote.
        let pairs = points(&[(0.5, 0), (0.5, 0), (-0.5, 1), (-0.5, 1), (3.0, 2)]);
        for (at, class) in [(0.1, 0), (-0.1, 1)] {
            for vote in [Vote::Majority, Vote::Weighted { temperature: 0.07 }] {
                assert_eq!(classes(&pairs, &points(&[(at, 0)]), &[4], vote), [class], "{vote:?}");
            }
        }
    }

    /// An encoder with the same feature for every image carries no information: no class may gain from its number or
    /// from its place in the list.
    #[test]
    fn field_f04_a_collapsed_encoder_guesses() {
        let flat =
            |labels: Vec<u32>| Features { values: [0.6, 0.8].repeat(labels.len()), dim: 2, labels };
        let labelled = flat((0..30).map(|i| i / 10).collect());
        let eval = flat(vec![0; 3000]);
        for vote in [Vote::Majority, Vote::Weighted { temperature: 0.1 }] {
            for k in [1, 2, 15, 29] {
                let found = classes(&labelled, &eval, &[k], vote);
                for class in 0..3 {
                    let count = found.iter().filter(|&&c| c == class).count();
                    // A third of 3,000 with a standard deviation of 26.
                    assert!((850..1150).contains(&count), "{vote:?} {k}: {count} of {class}");
                }
                assert_eq!(found, classes(&labelled, &eval, &[k], vote));
            }
        }
    }

    #[test]
    fn field_f04_a_callers_mistakes_are_errors() {
        let labelled = points(&[(0.0, 2), (0.1, 1), (0.25, 0)]);
        let eval = points(&[(0.02, 2)]);
        let error = |labelled: &Features, eval: &Features, k, vote| {
            knn(labelled, eval, 3, &[k], vote, &Device::flex()).unwrap_err().to_string()
        };
        let majority =
            |labelled: &Features, eval: &Features, k| error(labelled, eval, k, Vote::Majority);
        assert!(majority(&labelled, &eval, 0).contains("k = 0"));
        for k in [3, 4, usize::MAX] {
            let message = majority(&labelled, &eval, k);
            assert!(message.contains(&format!("k = {k}")), "{message}");
            assert!(message.contains("there are 3"), "{message}");
        }
        let none = Features { values: Vec::new(), dim: 2, labels: Vec::new() };
        assert!(majority(&none, &eval, 1).contains("no labelled images"));
        assert!(majority(&labelled, &none, 1).contains("no images to classify"));
        let deep = Features { values: vec![0.0; 3], dim: 3, labels: vec![0] };
        assert!(majority(&labelled, &deep, 1).contains("3 values in a feature, expected 2"));
        let blank = Features { values: Vec::new(), dim: 0, labels: vec![0, 1, 2] };
        majority(&blank, &blank, 1);
        let short = Features { values: vec![0.0; 3], ..labelled.clone() };
        assert!(majority(&short, &eval, 1).contains("3 feature values, expected 6"));
        let far = Features { labels: vec![0, 1, 9], ..labelled.clone() };
        assert!(majority(&far, &eval, 1).contains("image 2 has label 9"));
        let broken = Features { values: vec![0.0, f32::NAN], dim: 2, labels: vec![0] };
        assert!(majority(&labelled, &broken, 1).contains("feature 1 of image 0 is NaN"));
        for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let message = error(&labelled, &eval, 1, Vote::Weighted { temperature });
            assert!(message.contains("temperature"), "{message}");
        }
        // At the smallest temperature only the nearest neighbour counts.
        let coldest = Vote::Weighted { temperature: f32::MIN_POSITIVE };
        assert_eq!(classes(&labelled, &eval, &[2], coldest), [2]);
        assert!(knn(&labelled, &eval, 3, &[], Vote::Majority, &Device::flex()).unwrap().is_empty());
    }
}
