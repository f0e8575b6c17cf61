//! A set, or a part of it, with its labels: the result of all readers.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Joined, SampleSet, Subset};

/// A set with its labels.
#[derive(Clone)]
pub struct Split {
    /// The images.
    pub set: SampleSet,
    /// (image id, class) of every image, in order.
    pub labels: Vec<(u64, u32)>,
    /// The files of the images, in order, if the set is in files.
    pub files: Option<Arc<Vec<PathBuf>>>,
}

impl Split {
    /// The name of image `index` in an export: that of its file, or its id if there is none.
    pub(crate) fn file_name(&self, index: usize) -> String {
        let of_file = |files: &[PathBuf]| Some(files[index].file_name()?.to_str()?.to_owned());
        let named = self.files.as_ref().and_then(|files| of_file(files));
        named.unwrap_or_else(|| format!("{}.png", self.labels[index].0))
    }

    /// These images and then those of `other`; neither set is in files.
    pub(crate) fn followed_by(&self, other: &Self) -> Self {
        Self {
            set: Arc::new(Joined(vec![self.set.clone(), other.set.clone()])),
            labels: self.labels.iter().chain(&other.labels).copied().collect(),
            files: None,
        }
    }

    /// The images at `positions`.
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

    /// The source of image `index`: its file, or its id in the set `name`.
    pub(crate) fn source(&self, name: &str, index: usize) -> String {
        match &self.files {
            Some(files) => files[index].to_string_lossy().into_owned(),
            None => format!("{name}#{}", self.labels[index].0),
        }
    }
}
