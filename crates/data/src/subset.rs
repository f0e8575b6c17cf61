//! Parts of a set: seeded, stratified, nested; and a view of a set through a list of positions.

use std::collections::HashSet;

use burn_dataset::Dataset;
use ssl_backdoor_rng::{Purpose, ranked};

use crate::purpose;
use crate::{DataError, Sample, SampleSet, UNLABELLED};

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
        kept.extend(ranked(&ids, seed, purpose, 0).into_iter().take(count(ids.len())));
    }
    kept
}

/// The labelled subset of the probe: `floor(p · n)` images of each class. Subsets of growing `p`
/// are nested, and the same for every run and method on a data set (docs/protocol.md, 3.1).
pub fn labelled_ids(labels: &[(u64, u32)], classes: u32, p: f64, seed: u64) -> Vec<u64> {
    per_class(labels, classes, seed, purpose::LABELS, |n| (p * n as f64).floor() as usize)
}

/// `ids` in the order of a set with these (id, class) `labels`, which is the order of [`Subset::of_ids`]. Each id
/// occurs once; ids that are not in the set are left out.
pub fn in_set_order(labels: &[(u64, u32)], ids: &[u64]) -> Vec<u64> {
    let wanted: HashSet<u64> = ids.iter().copied().collect();
    labels.iter().map(|(id, _)| *id).filter(|id| wanted.contains(id)).collect()
}

/// The clean images a defender holds: `floor(p · n)` of each class and of the unlabelled, nested for growing `p`.
pub fn clean_part_ids(labels: &[(u64, u32)], classes: u32, p: f64, seed: u64) -> Vec<u64> {
    let count = |n: usize| (p * n as f64).floor() as usize;
    let mut ids = per_class(labels, classes, seed, purpose::CLEAN_PART, count);
    let unlabelled: Vec<u64> =
        labels.iter().filter(|(_, label)| *label == UNLABELLED).map(|(id, _)| *id).collect();
    let ranked = ranked(&unlabelled, seed, purpose::CLEAN_PART, 0);
    ids.extend(ranked.into_iter().take(count(unlabelled.len())));
    ids
}

/// Some samples of another set.
pub struct Subset {
    inner: SampleSet,
    indices: Vec<usize>,
}

impl Subset {
    /// Shows `inner` at these positions, in this order.
    ///
    /// # Errors
    /// [`DataError::Position`] with the first position that `inner` does not have.
    pub fn new(inner: SampleSet, positions: Vec<usize>) -> Result<Self, DataError> {
        let len = inner.len();
        match positions.iter().find(|&&position| position >= len) {
            Some(&position) => Err(DataError::Position { position, len }),
            None => Ok(Self::at(inner, positions)),
        }
    }

    /// The same with positions that are known to exist.
    pub(crate) fn at(inner: SampleSet, indices: Vec<usize>) -> Self {
        Self { inner, indices }
    }

    /// The samples with these ids, in the order of `inner` (that of [`in_set_order`]); `labels` lists (id, class) of
    /// `inner` in its order.
    pub fn of_ids(inner: SampleSet, labels: &[(u64, u32)], ids: &[u64]) -> Self {
        let wanted: HashSet<u64> = ids.iter().copied().collect();
        let all = 0..labels.len().min(inner.len());
        let indices = all.filter(|&i| wanted.contains(&labels[i].0)).collect();
        Self::at(inner, indices)
    }
}

impl Dataset<Sample, DataError> for Subset {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        self.inner.get(*DataError::at(&self.indices, index)?)
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
    fn field_f01_a_subset_shows_its_samples_in_the_order_that_is_told() {
        let sample = |&(id, label): &(u64, u32)| Sample::new(id, image::RgbImage::new(1, 1), label);
        let labels = labels();
        let inner: SampleSet =
            std::sync::Arc::new(crate::InMemory::new(labels.iter().map(sample).collect()));
        for share in [0.5, 0.1] {
            let ids = labelled_ids(&labels, 4, share, 3);
            let subset = Subset::of_ids(inner.clone(), &labels, &ids);
            let shown: Vec<u64> = (0..subset.len()).map(|i| subset.get(i).unwrap().id).collect();
            assert_ne!(shown, ids, "ids come class by class");
            assert_eq!(shown, in_set_order(&labels, &ids));
        }
    }

    #[test]
    fn review_2_06_a_position_that_does_not_exist_is_an_error() {
        let samples = (0..3).map(|id| Sample::new(id, image::RgbImage::new(1, 1), 0)).collect();
        let set: SampleSet = std::sync::Arc::new(crate::InMemory::new(samples));
        let subset = Subset::new(set.clone(), vec![2, 0]).unwrap();
        assert_eq!((subset.len(), subset.get(0).unwrap().id), (2, 2));
        let error = Subset::new(set, vec![2, 3, 9]).err().unwrap().to_string();
        assert!(error.contains("position 3") && error.contains("3 images"), "{error}");
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
