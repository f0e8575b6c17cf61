//! How good a ranking of images is, where it is known which of them are poisoned.

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

/// Precision and recall of the first `ks` of `ranked`, the most suspicious first. A k beyond the end is left out.
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
}
