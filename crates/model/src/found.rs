//! An encoder found in a checkpoint, for its family to read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::{Array, StateDict};
use crate::{ImportOptions, ModelError};

/// The location of an encoder in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Prefix of the names of its arrays.
    pub prefix: String,
    pub naming: Naming,
}

/// How the parts of a network are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// As its family names them.
    Plain,
    /// By number in a `Sequential` of a ResNet's children; `layer1` is number `first`.
    Sequential { first: usize },
}

impl Place {
    /// The part before `anchor`, if `name` ends with it.
    pub fn before(name: &str, anchor: &str) -> Option<Self> {
        let prefix = name.strip_suffix(anchor)?;
        let whole = prefix.is_empty() || prefix.ends_with('.');
        whole.then(|| Self { prefix: prefix.into(), naming: Naming::Plain })
    }

    /// The words of the prefix.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.prefix.split(['.', '_'])
    }

    /// Whether `word` is one of them.
    pub fn has(&self, word: &str) -> bool {
        self.words().any(|of| of == word)
    }
}

/// The encoder that is taken from a checkpoint.
pub(crate) struct Found<'a> {
    pub path: &'a Path,
    pub file: &'a StateDict,
    pub place: &'a Place,
    /// Full names in the checkpoint by names in an encoder file.
    pub names: &'a BTreeMap<String, &'a String>,
    /// The user's options, completed by those in the file.
    pub options: &'a ImportOptions,
}

impl Found<'_> {
    /// An error about the file, with this reason.
    pub fn wrong(&self, reason: impl std::fmt::Display) -> ModelError {
        ModelError::file(self.path, reason)
    }

    /// An error: the file lacks `what`, so `option` must set it.
    pub fn unstated(&self, what: &'static str, option: &'static str) -> ModelError {
        ModelError::unstated(self.path, what, option)
    }

    /// The shape of an array, if there is one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.names.get(name).map(|full| self.file.shapes[*full].as_slice())
    }

    /// The shape of an array of `D` axes.
    ///
    /// # Errors
    /// There is no such array, or it has another number of axes.
    pub fn axes<const D: usize>(&self, name: &str) -> Result<[usize; D], ModelError> {
        let shape = self.shape(name);
        let shape = shape.ok_or_else(|| self.wrong(format!("has no array {name}")))?;
        <[usize; D]>::try_from(shape).map_err(|_| {
            self.wrong(format!("{name} has the shape {shape:?}, expected are {D} numbers"))
        })
    }

    /// Number of parts `PREFIX0.`, `PREFIX1.`, …: one more than the largest number.
    pub fn count(&self, prefix: &str) -> usize {
        let number =
            |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        self.names.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    }

    /// The values of an array, if there is one.
    ///
    /// # Errors
    /// [`ModelError::File`] if it cannot be read.
    pub fn array(&self, name: &str) -> Result<Option<Array>, ModelError> {
        let Some(full) = self.names.get(name) else { return Ok(None) };
        self.file.check_size(std::iter::once(*full))?;
        self.file.read(full).map(Some)
    }
}
