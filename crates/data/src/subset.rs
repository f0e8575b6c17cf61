//! Parts of a set: seeded, stratified, nested; and a view of a set through a list of positions.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use burn_dataset::Dataset;
use ssl_backdoor_rng::{Purpose, ranked};

use crate::inside::whole;
use crate::purpose;
use crate::sets::file_list;
use crate::{DataError, Sample, SampleSet, Split, Splits, UNLABELLED};

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
/// are nested, and the same for every run and method on a data set (protocol 3.1).
pub fn labelled_ids(labels: &[(u64, u32)], classes: u32, p: f64, seed: u64) -> Vec<u64> {
    per_class(labels, classes, seed, purpose::LABELS, |n| (p * n as f64).floor() as usize)
}

/// `ids` in the order of a set whose (id, class) in their order are `labels`: that of the samples of
/// [`Subset::of_ids`]. Each id comes once; one that is not in the set is left out.
pub fn in_set_order(labels: &[(u64, u32)], ids: &[u64]) -> Vec<u64> {
    let wanted: HashSet<u64> = ids.iter().copied().collect();
    labels.iter().map(|(id, _)| *id).filter(|id| wanted.contains(id)).collect()
}

/// The labelled images of `splits` that the file list `list` names: by their paths, or where the set does not lie in files
/// by their ids. A line need not repeat the label.
///
/// # Errors
/// The list cannot be read, or a line names no labelled image, not its class, or an image that another line names.
pub fn listed_ids(splits: &Splits, list: &Path) -> Result<Vec<u64>, DataError> {
    let ids = named_ids(&splits.labelled, list, "none of the labelled images")?;
    let unlabelled: HashSet<u64> = splits
        .labelled
        .labels
        .iter()
        .filter(|(_, label)| *label == UNLABELLED)
        .map(|(id, _)| *id)
        .collect();
    if let Some(at) = ids.iter().position(|id| unlabelled.contains(id)) {
        let reason =
            format!("image {} of the list has no label: set `labelled` to labelled images", at + 1);
        return Err(DataError::Format { path: list.into(), reason });
    }
    Ok(ids)
}

/// The ids of the images of `split` that the file list `list` names, in its order; `none` says what an unknown one is. A
/// label in the list must be that of the image, if both have one.
pub(crate) fn named_ids(split: &Split, list: &Path, none: &str) -> Result<Vec<u64>, DataError> {
    let wrong = |reason| DataError::Format { path: list.into(), reason };
    let Split { labels, files, .. } = split;
    // Files are known by where they lie, however that is written; ids are no paths.
    let place = |path: &Path| if files.is_some() { whole(path) } else { path.to_owned() };
    let known: HashMap<PathBuf, (u64, u32)> = match files {
        Some(files) => files.iter().map(|path| place(path)).zip(labels.iter().copied()).collect(),
        None => labels.iter().map(|&(id, label)| (id.to_string().into(), (id, label))).collect(),
    };
    let root = files.is_none().then_some(Path::new(""));
    let (mut ids, mut seen) = (Vec::new(), HashSet::new());
    for entry in file_list::load(list, root)? {
        let shown = entry.path.display();
        let Some(&(id, label)) = known.get(&place(&entry.path)) else {
            return Err(wrong(format!("{shown} is {none}")));
        };
        if ![label, UNLABELLED].contains(&entry.label) && label != UNLABELLED {
            let listed = entry.label;
            return Err(wrong(format!("{shown} is of class {label}, it is listed as {listed}")));
        }
        if !seen.insert(id) {
            return Err(wrong(format!("{shown} is listed twice")));
        }
        ids.push(id);
    }
    Ok(ids)
}

/// The images a defender holds clean: `floor(p · n)` of each class, and of those without a label, nested for growing `p`.
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
    fn a_list_names_ids_or_paths_and_must_be_right() {
        let config = r#"{ "kind": "shapes", "size": 8, "per_class": 2 }"#;
        let config: crate::DataConfig = serde_json::from_str(config).unwrap();
        let splits = config.load(&|_, _, _| {}).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("labels.txt");
        let listed = |text: &str| {
            std::fs::write(&list, text).unwrap();
            listed_ids(&splits, &list).map_err(|e| e.to_string())
        };
        assert_eq!(listed("13 3\n4 4\n").unwrap(), [13, 4]);
        assert!(listed("13 4\n").unwrap_err().contains("13 is of class 3"));
        assert!(listed("13 3\n4 4\n13 3\n").unwrap_err().contains("13 is listed twice"));
        assert_eq!(listed("13\n4\n").unwrap(), [13, 4]);
        assert!(listed("999 0\n").unwrap_err().contains("999 is none of the labelled images"));
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
