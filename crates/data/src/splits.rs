//! A data set, read: its training images and the parts it is scored on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ssl_backdoor_trigger::{Attack, PoisonConfig, Setup, TrainingSet};

use crate::augment::Filter;
use crate::jpeg::is_jpeg;
use crate::preparation::Preparation;
use crate::references::OfClass;
use crate::sets::files::Files;
use crate::subset::named_ids;
use crate::wrappers::Joined;
use crate::{DataError, Eval, LeftOut, SampleSet, Subset, halves, resized_set};

/// A set with its labels.
#[derive(Clone)]
pub struct Split {
    /// The images.
    pub set: SampleSet,
    /// (image id, class) of every image, in order.
    pub labels: Vec<(u64, u32)>,
    /// The files of the images, in order, if they lie in files.
    pub files: Option<Arc<Vec<PathBuf>>>,
}

impl Split {
    /// Images that are read when they are asked for.
    pub(crate) fn of_files(files: Files) -> Self {
        let (labels, paths) = (files.labels(), files.paths());
        Self { set: Arc::new(files), labels, files: Some(Arc::new(paths)) }
    }

    /// What an export calls image `index`: as its file is called, or its id if there is none.
    pub(crate) fn file_name(&self, index: usize) -> String {
        let of_file = |files: &[PathBuf]| Some(files[index].file_name()?.to_str()?.to_owned());
        let named = self.files.as_ref().and_then(|files| of_file(files));
        named.unwrap_or_else(|| format!("{}.png", self.labels[index].0))
    }

    /// These images and then those of `other`; neither lies in files.
    pub(crate) fn followed_by(&self, other: &Self) -> Self {
        Self {
            set: Arc::new(Joined(vec![self.set.clone(), other.set.clone()])),
            labels: self.labels.iter().chain(&other.labels).copied().collect(),
            files: None,
        }
    }

    /// Those at `positions`.
    pub(crate) fn at(&self, positions: Vec<usize>) -> Self {
        Self {
            labels: positions.iter().map(|&i| self.labels[i]).collect(),
            files: self
                .files
                .as_ref()
                .map(|files| Arc::new(positions.iter().map(|&i| files[i].clone()).collect())),
            set: Arc::new(Subset::at(self.set.clone(), positions)),
        }
    }
}

/// Hashes of the images of a data set, in hexadecimal: of images in memory of the pixels, of files of their names below
/// the set's root, sizes and times. Where the set lies makes no difference.
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
    /// Images for pretraining as they are: what an attacker poisons. They may be [unlabelled](crate::UNLABELLED).
    pub train: Split,
    /// Images that carry labels for the probe, as they are: those that the config names as `labelled`, or else the training images.
    pub labelled: Split,
    /// The training images from the packed cache, their shorter side resized to the second value, if there
    /// is one.
    pub cached: Option<(SampleSet, u32)>,
    /// The images of `labelled`, prepared as evaluation images are.
    pub plain: SampleSet,
    /// Images the run is scored on, before they are prepared.
    pub eval: Split,
    /// Images for curves along the training, before they are prepared: always the `dev` part.
    pub dev: Split,
    /// Class names, by class.
    pub classes: Vec<String>,
    /// Name for provenance: the source of an image without a file is `{name}#{id}`.
    pub name: String,
    /// Hashes of what was read, so that a changed image is noticed.
    pub fingerprint: Fingerprint,
    /// What was left out of the folders, by kind.
    pub left_out: Vec<LeftOut>,
    /// Files among them that should have been images, with what is wrong.
    pub skipped: Vec<String>,
    /// How images are prepared for the network.
    pub(crate) preparation: Preparation,
}

impl Splits {
    /// The attack of `config` on the training images.
    ///
    /// # Errors
    /// A target that does not exist, an amount that is not to be had, or a list that names other than training images.
    pub fn attack(&self, config: &PoisonConfig, seed: u64) -> Result<Attack, DataError> {
        let read = |list: &PathBuf| named_ids(&self.train, list, "no training image");
        let listed = config.list.as_ref().map(read).transpose()?.unwrap_or_default();
        let (labels, classes) = (&self.train.labels[..], &self.classes[..]);
        let set = TrainingSet { labels, classes, listed: &listed };
        Ok(config.attack_on(&set, seed, &self.setup(config)?)?)
    }

    /// What perturbations are built from: the side of the views, and the training images of the target class of `config`
    /// as references.
    ///
    /// # Errors
    /// A target that does not exist.
    pub fn setup(&self, config: &PoisonConfig) -> Result<Setup, DataError> {
        let mut setup = Setup::new(self.preparation.size);
        if let Some(target) = &config.target {
            setup.references = Arc::new(OfClass::new(&self.train, target.index(&self.classes)?));
        }
        Ok(setup)
    }

    /// The ids of the training images that the file list `list` names, in its order: by their paths, or where the set does
    /// not lie in files by their ids. A line need not repeat the label.
    ///
    /// # Errors
    /// The list cannot be read, or a line names no training image, not its class, or an image that another line names.
    pub fn training_ids(&self, list: &Path) -> Result<Vec<u64>, DataError> {
        named_ids(&self.train, list, "no training image")
    }

    /// Where training image `index` comes from.
    pub fn source(&self, index: usize) -> String {
        source(&self.name, &self.train, index)
    }

    /// Does an export write any of these images as JPEG? All others become PNG.
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

    /// Evaluation images prepared for the network, as squares of the config's size: of sets in memory the whole image is
    /// resized, of image files the shorter side, and the centre is cut out (Resize and CenterCrop).
    pub fn prepared(&self, split: &Split) -> SampleSet {
        self.preparation.of(split.set.clone())
    }

    /// The same at another size or by another filter. Images of that size already are left as they are.
    pub fn prepared_by(&self, split: &Split, size: u32, filter: Filter) -> SampleSet {
        resized_set(split.set.clone(), size, filter, self.preparation.whole)
    }
}

/// Where image `index` of `split` comes from.
pub(crate) fn source(name: &str, split: &Split, index: usize) -> String {
    match &split.files {
        Some(files) => files[index].to_string_lossy().into_owned(),
        None => format!("{name}#{}", split.labels[index].0),
    }
}
