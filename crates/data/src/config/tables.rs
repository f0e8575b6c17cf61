//! The keys of each kind of data set.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which part of the test images a run is scored on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Eval {
    /// The part that settings may be chosen on.
    #[default]
    Dev,
    /// The part that is looked at once per committed result.
    Test,
    /// Both: for published protocols that score all of it, where nothing was chosen on `dev`.
    All,
}

/// What happens when an image file cannot be decoded, is empty or missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCorrupt {
    /// The run stops and names the file.
    #[default]
    Stop,
    /// All files are decoded before anything starts; the corrupt ones are named, counted and left out.
    Skip,
}

/// Settings of `shapes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shapes {
    /// Side of the views and of the evaluation images in pixels, 8 to 1024.
    pub size: u32,
    /// Side at which the images are drawn, `size` to 1024 pixels; absent = `size`. Training images keep it: triggers are
    /// pasted on them and crops are cut from them at this side. Evaluation images are resized to `size` as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<u32>,
    /// Training images per class.
    pub per_class: u32,
    /// Evaluation images per class.
    #[serde(default = "default_eval_per_class")]
    pub eval_per_class: u32,
    /// Seed of the drawings (the run's own seed does not change the data set).
    #[serde(default)]
    pub seed: u64,
    /// Which evaluation images.
    #[serde(default)]
    pub eval: Eval,
}

/// Settings of a set that fits in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallSet {
    /// Folder with its files; absent = where a system package puts them, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Side of the views and of the evaluation images in pixels, 8 to 1024.
    pub size: u32,
    /// Side that the images are resized to before anything else, 8 to 1024 pixels; absent = `size`. Training images keep
    /// it: triggers are pasted on them and crops are cut from them at this side. Evaluation images are resized to `size` as
    /// a whole. The images are kept in memory as they lie in the files and resized when they are read, unless all of
    /// them take at most 256 MB at this side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<u32>,
    /// Training images per class (a seeded sample); absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_class: Option<u32>,
    /// Seed of that sample and of the labelled subsets.
    #[serde(default)]
    pub seed: u64,
    /// `dev` = the first half of the test images, `test` = the second.
    #[serde(default)]
    pub eval: Eval,
}

/// Settings of STL-10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stl10 {
    /// Folder with its files.
    pub path: PathBuf,
    /// As in [`SmallSet`].
    pub size: u32,
    /// As in [`SmallSet`]; 96 = as they lie in the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<u32>,
    /// Whether the 100,000 unlabelled images belong to the training set.
    #[serde(default)]
    pub unlabelled: bool,
    /// Seed of the labelled subsets.
    #[serde(default)]
    pub seed: u64,
    /// `dev` = the first half of the test images, `test` = the second.
    #[serde(default)]
    pub eval: Eval,
}

/// Settings of image folders. Images lie at any depth below their class folder; training images without labels lie directly
/// in `train`. What else lies there is counted and left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The folder with `train` and `val` in it.
    pub path: PathBuf,
    /// Side of the views and of the evaluation images (Resize 256/224 of it, CenterCrop), 8 to 1024.
    pub size: u32,
    /// Seed of the labelled subsets and of the halves of the evaluation images.
    #[serde(default)]
    pub seed: u64,
    /// `dev` and `test` = two halves of each class of the evaluation images.
    #[serde(default)]
    pub eval: Eval,
    /// What a file does that cannot be decoded, is empty or missing, or is a link that leads nowhere.
    #[serde(default)]
    pub on_corrupt: OnCorrupt,
    /// Turns images as their EXIF orientation says; off = as the reference reads them.
    #[serde(default)]
    pub exif_orientation: bool,
    /// Labelled images for the probe, where the training images carry no labels or others are wanted: a folder of class
    /// folders, or a file list; absent = the training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled: Option<PathBuf>,
    /// Folder for the packed cache of decoded images; absent = files are decoded in every epoch. With
    /// it crops are taken from images whose shorter side was resized to 256/224 of `size`. Several runs
    /// and data sets may share the folder, at the same time too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

/// Settings of file lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileList {
    /// The list of the training images; their labels may be absent.
    pub train: PathBuf,
    /// The list of the evaluation images.
    pub val: PathBuf,
    /// Where relative paths in the lists start; absent = where each list lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// As in [`Folder`].
    pub size: u32,
    /// As in [`Folder`].
    #[serde(default)]
    pub seed: u64,
    /// As in [`Folder`].
    #[serde(default)]
    pub eval: Eval,
    /// As in [`Folder`].
    #[serde(default)]
    pub on_corrupt: OnCorrupt,
    /// As in [`Folder`].
    #[serde(default)]
    pub exif_orientation: bool,
    /// As in [`Folder`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled: Option<PathBuf>,
    /// As in [`Folder`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

pub(crate) fn default_eval_per_class() -> u32 {
    200
}
