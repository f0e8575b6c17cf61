//! A data set, read: its training images and the parts it is scored on.

use std::path::PathBuf;
use std::sync::Arc;

use ssl_backdoor_trigger::{Attack, PoisonConfig};

use crate::sets::files::Files;
use crate::subset::named_ids;
use crate::wrappers::Prepared;
use crate::{DataError, InMemory, LeftOut, Sample, SampleSet, Subset};

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
    /// Images that are at hand.
    pub(crate) fn in_memory(samples: Vec<Sample>) -> Self {
        let labels = samples.iter().map(|s| (s.id, s.label)).collect();
        Self { set: Arc::new(InMemory::new(samples)), labels, files: None }
    }

    /// Images that are read when they are asked for.
    pub(crate) fn of_files(files: Files) -> Self {
        let (labels, paths) = (files.labels(), files.paths());
        Self { set: Arc::new(files), labels, files: Some(Arc::new(paths)) }
    }

    /// Those at `positions`.
    pub(crate) fn at(&self, positions: Vec<usize>) -> Self {
        Self {
            labels: positions.iter().map(|&i| self.labels[i]).collect(),
            files: self
                .files
                .as_ref()
                .map(|files| Arc::new(positions.iter().map(|&i| files[i].clone()).collect())),
            set: Arc::new(Subset::new(self.set.clone(), positions)),
        }
    }
}

/// A data set, read.
#[derive(Clone)]
pub struct Splits {
    /// Images for pretraining as they are: what an attacker poisons. They may be [unlabelled](crate::UNLABELLED).
    pub train: Split,
    /// Images that carry labels for the probe, as they are: those of `data.labelled`, or else the training images.
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
    /// Hash of what was read, so that a changed file is noticed.
    pub fingerprint: String,
    /// What was left out of the folders, by kind.
    pub left_out: Vec<LeftOut>,
    /// Files among them that should have been images, with what is wrong.
    pub skipped: Vec<String>,
    /// Side of prepared images.
    pub(crate) size: u32,
}

impl Splits {
    /// The attack of `config` on the training images.
    ///
    /// # Errors
    /// A target that does not exist, an amount that is not to be had, or a list that names other than training images.
    pub fn attack(&self, config: &PoisonConfig, seed: u64) -> Result<Attack, DataError> {
        let read = |list: &PathBuf| named_ids(&self.train, list, "no training image");
        let listed = config.list.as_ref().map(read).transpose()?.unwrap_or_default();
        Ok(config.attack_listed(&self.train.labels, &self.classes, &listed, seed)?)
    }

    /// Where training image `index` comes from.
    pub fn source(&self, index: usize) -> String {
        source(&self.name, &self.train, index)
    }

    /// The training images as pretraining reads them: from the cache if there is one.
    pub fn pretrain_set(&self) -> &SampleSet {
        self.cached.as_ref().map_or(&self.train.set, |(set, _)| set)
    }

    /// Evaluation images prepared for the network: Resize and CenterCrop to the config's size.
    pub fn prepared(&self, split: &Split) -> SampleSet {
        prepared(split.set.clone(), self.size)
    }
}

/// Where image `index` of `split` comes from.
pub(crate) fn source(name: &str, split: &Split, index: usize) -> String {
    match &split.files {
        Some(files) => files[index].to_string_lossy().into_owned(),
        None => format!("{name}#{}", split.labels[index].0),
    }
}

pub(crate) fn prepared(set: SampleSet, size: u32) -> SampleSet {
    Arc::new(Prepared::new(set, size))
}
