//! The quality of a ranking of images, if the poisoned ones are known.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// Precision and recall of the first images of a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtK {
    /// How many images are looked at.
    pub k: usize,
    /// Poisoned images among them.
    pub poisoned: usize,
    /// Share of them that is poisoned, 0 to 1.
    pub precision: f64,
    /// Share of all poisoned images that is among them, 0 to 1; none without a poisoned image.
    pub recall: Option<f64>,
}

/// Precision and recall of the first k of `ranked`, most suspicious first, for `ks`. Skips 0 and a k beyond the end.
pub fn precision_and_recall(ranked: &[u64], poisoned: &HashSet<u64>, ks: &[usize]) -> Vec<AtK> {
    let of = |&k: &usize| {
        let found = ranked.get(..k)?.iter().filter(|id| poisoned.contains(id)).count();
        let share = |all: usize| found as f64 / all as f64;
        let recall = (!poisoned.is_empty()).then(|| share(poisoned.len()));
        (k > 0).then(|| AtK { k, poisoned: found, precision: share(k), recall })
    };
    ks.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_is_of_the_first_and_recall_of_the_poisoned() {
        let poisoned = HashSet::from([1, 2, 3, 9]);
        let found = precision_and_recall(&[1, 5, 2, 6, 7], &poisoned, &[0, 1, 4, 5, 6]);
        let figures: Vec<_> = found.iter().map(|at| (at.k, at.precision, at.recall)).collect();
        assert_eq!(figures, [(1, 1.0, Some(0.25)), (4, 0.5, Some(0.5)), (5, 0.4, Some(0.5))]);
        assert_eq!(precision_and_recall(&[1], &HashSet::new(), &[1])[0].recall, None);
    }

    /// y = [1 if i % 7 in (0, 3) else 0 for i in range(40)]; order = [i * 13 % 40 for i in range(40)]
    /// for k in (5, 20, 33): p = [1 if i in order[:k] else 0 for i in range(40)]
    ///     print(sklearn.metrics.precision_score(y, p), sklearn.metrics.recall_score(y, p))
    #[test]
    fn both_are_scikit_learns() {
        let poisoned: HashSet<u64> = (0..40).filter(|i| [0, 3].contains(&(i % 7))).collect();
        let ranked: Vec<u64> = (0..40).map(|i| i * 13 % 40).collect();
        let found = precision_and_recall(&ranked, &poisoned, &[5, 20, 33]);
        for (at, (precision, recall)) in found.iter().zip([
            (0.2, 0.08333333333333333),
            (0.35, 0.5833333333333334),
            (0.30303030303030304, 0.8333333333333334),
        ]) {
            assert!((at.precision - precision).abs() < 1e-12, "{at:?}");
            assert!((at.recall.unwrap() - recall).abs() < 1e-12, "{at:?}");
        }
        assert_eq!(found.len(), 3);
    }
}
