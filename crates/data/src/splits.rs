//! A loaded data set: its training images and evaluation images.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ssl_backdoor_trigger::{Attack, PoisonConfig, Setup, TrainingSet};

use crate::augment::Filter;
use crate::jpeg::is_jpeg;
use crate::listed::named_ids;
use crate::preparation::Preparation;
use crate::references::OfClass;
use crate::sets::shapes::Outlines;
use crate::{DataError, Eval, LeftOut, SampleSet, Split, UNLABELLED, halves, resized_set};

/// Hashes of the images of a data set, in hexadecimal: for images in memory of the pixels, for files of their names
/// below the set's root, sizes and times. The location of the set makes no difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the training images with their labels.
    pub train: String,
    /// Of the images that may carry labels for the probe.
    pub labelled: String,
    /// Of the images that the run is scored on.
    pub eval: String,
    /// Of the `dev` part.
    pub dev: String,
}

/// A data set, read.
#[derive(Clone)]
pub struct Splits {
    /// Unprepared images for pretraining, which an attacker poisons. They may be [unlabelled](crate::UNLABELLED).
    pub train: Split,
    /// Unprepared images with labels for the probe: those of the config's `labelled`, or else the training images.
    pub labelled: Split,
    /// The training images from the packed cache, if there is one, and the length of their shorter side.
    pub cached: Option<(SampleSet, u32)>,
    /// The images of `labelled`, prepared as evaluation images are.
    pub labelled_prepared: SampleSet,
    /// Images the run is scored on, before they are prepared.
    pub eval: Split,
    /// Images for curves during training, before they are prepared: always the `dev` part.
    pub dev: Split,
    /// Class names, by class.
    pub classes: Vec<String>,
    /// Name for provenance: the source of an image without a file is `{name}#{id}`.
    pub name: String,
    /// Hashes of the images, so that a change is noticed.
    pub fingerprint: Fingerprint,
    /// What was left out of the folders, by kind.
    pub left_out: Vec<LeftOut>,
    /// Files among them that should have been images, each with the error.
    pub skipped: Vec<String>,
    /// How images are prepared for the network.
    pub(crate) preparation: Preparation,
    /// The outlines of the objects on the training images, if the set knows them.
    pub(crate) outlines: Option<Outlines>,
}

impl Splits {
    /// The attack of `config` on the training images.
    ///
    /// # Errors
    /// A target that does not exist, more images than there are, or a list with images that are not training images.
    pub fn attack(&self, config: &PoisonConfig, seed: u64) -> Result<Attack, DataError> {
        let read = |list: &PathBuf| named_ids(&self.train, list, "no training image");
        let listed = config.list.as_ref().map(read).transpose()?.unwrap_or_default();
        let (labels, classes) = (&self.train.labels[..], &self.classes[..]);
        let set = TrainingSet { labels, classes, listed: &listed };
        Ok(config.attack_on(&set, seed, &self.setup(config)?)?)
    }

    /// The inputs from which perturbations are built: the side of the views, and the training images of the target
    /// class of `config` as references.
    ///
    /// # Errors
    /// A target that does not exist.
    pub fn setup(&self, config: &PoisonConfig) -> Result<Setup, DataError> {
        let mut setup = Setup::new(self.preparation.size);
        if let Some(target) = &config.target {
            let class = target.index(&self.classes)?;
            setup.references = Arc::new(OfClass::new(&self.train, class, self.outlines));
        }
        Ok(setup)
    }

    /// The ids of the training images that the file list `list` names, in its order: by their paths, or by their ids
    /// if the set is not in files. The label in a line is optional.
    ///
    /// # Errors
    /// The list cannot be read, or a line names an unknown image, a wrong class, or an image that another line names.
    pub fn training_ids(&self, list: &Path) -> Result<Vec<u64>, DataError> {
        named_ids(&self.train, list, "no training image")
    }

    /// The source of training image `index`: its file, or its id in the set.
    pub fn source(&self, index: usize) -> String {
        self.train.source(&self.name, index)
    }

    /// Whether an export writes any of these images as JPEG. All others become PNG.
    pub fn exports_jpegs(&self) -> bool {
        let any = |split: &Split| (0..split.labels.len()).any(|i| is_jpeg(&split.file_name(i)));
        any(&self.train) || any(&self.eval)
    }

    /// The training images as pretraining reads them: from the cache if there is one.
    pub fn pretrain_set(&self) -> &SampleSet {
        self.cached.as_ref().map_or(&self.train.set, |(set, _)| set)
    }

    /// Checks that there are training images and images in `part`, the one that is scored.
    pub(crate) fn check_parts(&self, part: Eval) -> Result<(), DataError> {
        if self.train.labels.is_empty() {
            let reason = format!("all {} images are corrupt", self.skipped.len());
            let (field, value) = ("on_corrupt", "skip".into());
            return Err(DataError::NoImages { field, value, reason });
        }
        halves::check_part(part, &self.eval.labels, &self.dev.labels, self.classes.len())
    }

    /// Evaluation images prepared for the network, as squares of the config's size: for sets in memory the whole
    /// image is resized; for image files the shorter side is resized and the centre cut out (Resize and CenterCrop).
    pub fn prepared(&self, split: &Split) -> SampleSet {
        self.preparation.of(split.set.clone())
    }

    /// The same at another size or with another filter. Images that already have this size are unchanged.
    pub fn prepared_by(&self, split: &Split, size: u32, filter: Filter) -> SampleSet {
        resized_set(split.set.clone(), size, filter, self.preparation.whole)
    }
}

/// The ids of the labelled images of `splits` that the file list `list` names: by their paths, or by their ids if the
/// set is not in files. The label in a line is optional.
///
/// # Errors
/// The list cannot be read, or a line names an unknown or unlabelled image, a wrong class, or an image named before.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
