//! Constructors with the defaults of a config file. Use struct update syntax to change other fields.

use std::path::PathBuf;

use crate::config::{FileList, Folder, Shapes, SmallSet, Stl10, default_eval_per_class};
use crate::{Eval, OnCorrupt};

impl Shapes {
    /// `per_class` training images of each class, of `size` pixels a side.
    pub fn new(size: u32, per_class: u32) -> Self {
        let (eval_per_class, eval) = (default_eval_per_class(), Eval::default());
        Self { size, native: None, per_class, eval_per_class, seed: 0, eval }
    }
}

impl SmallSet {
    /// All images, resized to `size` pixels a side, from the folder of a system package.
    pub fn new(size: u32) -> Self {
        Self { path: None, size, native: None, per_class: None, seed: 0, eval: Eval::default() }
    }
}

impl Stl10 {
    /// The labelled images in the folder `path`, resized to `size` pixels a side.
    pub fn new(path: impl Into<PathBuf>, size: u32) -> Self {
        let (path, eval) = (path.into(), Eval::default());
        Self { path, size, native: None, unlabelled: false, seed: 0, eval }
    }
}

impl Folder {
    /// The images below `path`, for views of `size` pixels a side.
    pub fn new(path: impl Into<PathBuf>, size: u32) -> Self {
        Self {
            path: path.into(),
            size,
            seed: 0,
            eval: Eval::default(),
            on_corrupt: OnCorrupt::default(),
            exif_orientation: false,
            labelled: None,
            cache: None,
        }
    }
}

impl FileList {
    /// The images that the lists `train` and `val` name, for views of `size` pixels a side.
    pub fn new(train: impl Into<PathBuf>, val: impl Into<PathBuf>, size: u32) -> Self {
        Self {
            train: train.into(),
            val: val.into(),
            root: None,
            size,
            seed: 0,
            eval: Eval::default(),
            on_corrupt: OnCorrupt::default(),
            exif_orientation: false,
            labelled: None,
            cache: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::DataConfig;

    /// A config file that sets no more than the constructor gives the same set.
    #[test]
    fn a_constructor_is_a_file_that_says_as_little() {
        let read = |table: Value| serde_json::from_value::<DataConfig>(table).unwrap();
        for (set, table) in [
            (
                DataConfig::Shapes(Shapes::new(32, 20)),
                json!({ "kind": "shapes", "size": 32, "per_class": 20 }),
            ),
            (DataConfig::Mnist(SmallSet::new(32)), json!({ "kind": "mnist", "size": 32 })),
            (
                DataConfig::Stl10(Stl10::new("a", 64)),
                json!({ "kind": "stl10", "path": "a", "size": 64 }),
            ),
            (
                DataConfig::Folder(Folder::new("a", 64)),
                json!({ "kind": "folder", "path": "a", "size": 64 }),
            ),
            (
                DataConfig::FileList(FileList::new("a", "b", 64)),
                json!({ "kind": "file-list", "train": "a", "val": "b", "size": 64 }),
            ),
        ] {
            assert_eq!(set, read(table));
        }
    }
}
