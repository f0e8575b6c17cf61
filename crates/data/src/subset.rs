//! Parts of a set: seeded, stratified, nested; and a view of a set through a list of positions.

use burn_dataset::Dataset;
use ssl_backdoor_trigger::chance::{self, Purpose};

use crate::{DataError, Sample, SampleSet};

/// Ids of `count(n)` images out of the n of each class, ascending by class then rank.
pub(crate) fn per_class(
    labels: &[(u64, u32)],
    classes: u32,
    seed: u64,
    purpose: Purpose,
    count: impl Fn(usize) -> usize,
) -> Vec<u64> {
    let mut kept = Vec::new();
    for class in 0..classes {
        let ids: Vec<u64> =
            labels.iter().filter(|(_, label)| *label == class).map(|(id, _)| *id).collect();
        kept.extend(chance::ranked(&ids, seed, purpose, 0).into_iter().take(count(ids.len())));
    }
    kept
}

/// The labelled subset of the probe: `floor(p · n)` images of each class. Subsets of growing `p`
/// are nested, and the same for every run and method on a data set (protocol 3.1).
pub fn labelled_ids(labels: &[(u64, u32)], classes: u32, p: f64, seed: u64) -> Vec<u64> {
    per_class(labels, classes, seed, Purpose::Labels, |n| (p * n as f64).floor() as usize)
}

/// The images a defender holds clean: `floor(p · n)` of each class, nested for growing `p`.
pub fn clean_part_ids(labels: &[(u64, u32)], classes: u32, p: f64, seed: u64) -> Vec<u64> {
    per_class(labels, classes, seed, Purpose::CleanPart, |n| (p * n as f64).floor() as usize)
}

/// Some samples of another set.
pub struct Subset {
    inner: SampleSet,
    indices: Vec<usize>,
}

impl Subset {
    /// Shows `inner` at these positions, in this order; positions past its end are dropped.
    pub fn new(inner: SampleSet, indices: Vec<usize>) -> Self {
        let len = inner.len();
        Self { inner, indices: indices.into_iter().filter(|&i| i < len).collect() }
    }

    /// The samples with these ids; `labels` lists (id, class) of `inner` in its order.
    pub fn of_ids(inner: SampleSet, labels: &[(u64, u32)], ids: &[u64]) -> Self {
        let wanted: std::collections::BTreeSet<u64> = ids.iter().copied().collect();
        let indices = (0..labels.len()).filter(|&i| wanted.contains(&labels[i].0)).collect();
        Self::new(inner, indices)
    }
}

impl Dataset<Sample, DataError> for Subset {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        self.inner.get(self.indices[index])
    }

    fn len(&self) -> usize {
        self.indices.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<(u64, u32)> {
        (0..95).map(|id| (id * 3, (id % 4) as u32)).collect()
    }

    #[test]
    fn labelled_subsets_are_stratified_and_nested() {
        let small = labelled_ids(&labels(), 4, 0.1, 0);
        let large = labelled_ids(&labels(), 4, 0.5, 0);
        // Classes of 24, 24, 24, 23 images: floor(2.4) = 2 each, floor(12) = 12 and floor(11.5) = 11.
        assert_eq!((small.len(), large.len()), (8, 47));
        assert!(small.iter().all(|id| large.contains(id)));
    }
}
