//! The keys of each kind of data set.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which part of the test images a run is scored on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Eval {
    /// The part on which settings may be chosen.
    #[default]
    Dev,
    /// The part that is used once, for a result that is reported.
    Test,
    /// Both parts, for published protocols that score all images, where no setting was chosen on `dev`.
    All,
}

/// What happens when an image file cannot be decoded, is empty or missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnCorrupt {
    /// The run stops and names the file.
    #[default]
    Stop,
    /// All files are decoded before the run starts; corrupt ones are named, counted and left out.
    Skip,
}

/// Settings of `shapes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shapes {
    /// Side of the square views and evaluation images in pixels.
    #[schemars(range(min = 8, max = 1024))]
    pub size: u32,
    /// Side at which images are drawn, in pixels, `size` or more. Triggers are pasted on training images, and crops cut
    /// from them, at this side; evaluation images are resized to `size`. Default: `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 1024))]
    pub native: Option<u32>,
    /// Training images of each of the ten classes: arrow, house, heart, table, key, flag, goblet, boot, anchor, crown.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_class: u32,
    /// Evaluation images per class in each half, `dev` and `test`.
    #[serde(default = "default_eval_per_class")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub eval_per_class: u32,
    /// Seed of the drawings. The run's own `seed` does not change the data set.
    #[serde(default)]
    pub seed: u64,
    /// The evaluation images that are scored: `dev` and `test` are two halves.
    #[serde(default)]
    pub eval: Eval,
}

/// Settings of a data set that fits in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmallSet {
    /// Folder with the files. Default: where a system package installs them, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Side of the square views and evaluation images in pixels.
    #[schemars(range(min = 8, max = 1024))]
    pub size: u32,
    /// Side to which images are resized first, in pixels. Triggers are pasted on training images, and crops cut from
    /// them, at this side; evaluation images are resized to `size`. Resized images are kept in memory if they take at
    /// most 256 MB, else they are resized when they are read. Default: `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 1024))]
    pub native: Option<u32>,
    /// Training images per class, a seeded sample. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_class: Option<u32>,
    /// Seed of the `per_class` sample and of the labelled subsets.
    #[serde(default)]
    pub seed: u64,
    /// The test images that are scored: `dev` is the first half, `test` the second.
    #[serde(default)]
    pub eval: Eval,
}

/// Settings of STL-10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stl10 {
    /// Folder with the files.
    pub path: PathBuf,
    /// Side of the square views and evaluation images in pixels.
    #[schemars(range(min = 8, max = 1024))]
    pub size: u32,
    /// Side to which images are resized first, in pixels; the files have 96. Triggers are pasted on training images,
    /// and crops cut from them, at this side; evaluation images are resized to `size`. Default: `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 1024))]
    pub native: Option<u32>,
    /// Adds the 100,000 unlabelled images to the training set.
    #[serde(default)]
    pub unlabelled: bool,
    /// Seed of the labelled subsets.
    #[serde(default)]
    pub seed: u64,
    /// The test images that are scored: `dev` is the first half, `test` the second.
    #[serde(default)]
    pub eval: Eval,
}

/// Settings of image folders. Images may lie at any depth below their class folder; training images without labels lie
/// directly in `train`. Other files are counted and left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Folder with `train` and `val`.
    pub path: PathBuf,
    /// Side of the square views and evaluation images in pixels. The shorter side of an evaluation image is resized to
    /// 256/224 of it, then its centre is cropped.
    #[schemars(range(min = 8, max = 1024))]
    pub size: u32,
    /// Seed of the labelled subsets and of the halves of the evaluation images.
    #[serde(default)]
    pub seed: u64,
    /// The evaluation images that are scored: `dev` and `test` are two halves of each class.
    #[serde(default)]
    pub eval: Eval,
    /// What happens if a file cannot be decoded, is empty or missing, or is a broken link.
    #[serde(default)]
    pub on_corrupt: OnCorrupt,
    /// Rotates images as their EXIF orientation says. The reference code does not.
    #[serde(default)]
    pub exif_orientation: bool,
    /// Labelled images for the probe, where the training images have no labels or others are wanted: a folder of class
    /// folders, or a file list. Default: the training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled: Option<PathBuf>,
    /// Folder for a packed cache of decoded images. With a cache, crops are cut from images whose shorter side was
    /// resized to 256/224 of `size`. Several runs and data sets may share the folder at the same time. Default: none,
    /// files are decoded in every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

/// Settings of file lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileList {
    /// List of the training images: on each line a path and, if it has a label, the number of its class. A class is named
    /// after the folder of its images if each class has a folder of its own, else by its number.
    pub train: PathBuf,
    /// List of the evaluation images, with labels.
    pub val: PathBuf,
    /// Folder to which relative paths in the lists refer. Default: the folder of each list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Side of the square views and evaluation images in pixels. The shorter side of an evaluation image is resized to
    /// 256/224 of it, then its centre is cropped.
    #[schemars(range(min = 8, max = 1024))]
    pub size: u32,
    /// Seed of the labelled subsets and of the halves of the evaluation images.
    #[serde(default)]
    pub seed: u64,
    /// The evaluation images that are scored: `dev` and `test` are two halves of each class.
    #[serde(default)]
    pub eval: Eval,
    /// What happens if a file cannot be decoded, is empty or missing, or is a broken link.
    #[serde(default)]
    pub on_corrupt: OnCorrupt,
    /// Rotates images as their EXIF orientation says. The reference code does not.
    #[serde(default)]
    pub exif_orientation: bool,
    /// Labelled images for the probe, where the training images have no labels or others are wanted: a folder of class
    /// folders, or a file list. Default: the training images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labelled: Option<PathBuf>,
    /// Folder for a packed cache of decoded images. With a cache, crops are cut from images whose shorter side was
    /// resized to 256/224 of `size`. Several runs and data sets may share the folder at the same time. Default: none,
    /// files are decoded in every epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

pub(crate) fn default_eval_per_class() -> u32 {
    200
}
