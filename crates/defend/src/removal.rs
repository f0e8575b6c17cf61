//! The quality of a filter of the training set, according to the attacker's ledger.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// What a filter took out of the training set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    /// Images that it removed.
    pub removed: usize,
    /// Poisoned images among them.
    pub poisoned: usize,
    /// Poisoned images that it left in the set.
    pub left: usize,
    /// Percent of the poisoned images that it removed; none without a poisoned image.
    pub recall: Option<f64>,
    /// Percent of the removed images that are poisoned; none if nothing was removed.
    pub precision: Option<f64>,
}

impl Removal {
    /// Computes it from the ids of the `removed` images and of all `poisoned` images.
    pub fn of(removed: &[u64], poisoned: &[u64]) -> Self {
        let known: HashSet<u64> = poisoned.iter().copied().collect();
        let found = removed.iter().filter(|id| known.contains(id)).count();
        let percent = |of: usize| (of > 0).then(|| 100.0 * found as f64 / of as f64);
        Self {
            removed: removed.len(),
            poisoned: found,
            left: known.len() - found,
            recall: percent(known.len()),
            precision: percent(removed.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_is_of_the_poisoned_and_precision_of_the_removed() {
        let found = Removal::of(&[1, 2, 3, 4], &[3, 4, 5]);
        assert_eq!((found.removed, found.poisoned, found.left), (4, 2, 1));
        assert_eq!((found.recall, found.precision), (Some(200.0 / 3.0), Some(50.0)));
        let none = Removal::of(&[], &[]);
        assert_eq!((none.left, none.recall, none.precision), (0, None, None));
    }
}
