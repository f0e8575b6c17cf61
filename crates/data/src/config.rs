//! The `[data]` table: which set, from where, at which size, and which part is scored.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_trigger::{PoisonConfig, TriggerError};

use crate::DataError;
use crate::sets::{cifar, imagenet100, mnist, shapes, stl10};

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

/// Sizes an image may have, in pixels.
const SIZES: std::ops::RangeInclusive<u32> = 8..=1024;

/// The `[data]` table of a config. One arm per data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DataConfig {
    /// Ten classes drawn from a seed; needs no files.
    Shapes(Shapes),
    /// MNIST from IDX files, plain or gzip.
    Mnist(SmallSet),
    /// Fashion-MNIST from IDX files, plain or gzip.
    FashionMnist(SmallSet),
    /// KMNIST from IDX files, plain or gzip.
    Kmnist(SmallSet),
    /// CIFAR-10, binary or Python version.
    Cifar10(SmallSet),
    /// CIFAR-100 with its fine labels, binary or Python version.
    Cifar100(SmallSet),
    /// STL-10, binary version.
    Stl10(Stl10),
    /// PATH/train/CLASS/* and PATH/val/CLASS/*.
    Folder(Folder),
    /// File lists, a line `path label` per image.
    FileList(FileList),
    /// The 100 classes of the paper from an ImageNet folder, PATH/train/WNID/* and PATH/val/WNID/*.
    Imagenet100(Folder),
    /// Tiny-ImageNet as its archive unpacks: wnids.txt, train/WNID/images/*, val/images/*, val/val_annotations.txt.
    TinyImagenet(Folder),
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

impl DataConfig {
    /// Checks sizes, without reading anything.
    ///
    /// # Errors
    /// [`DataError::Range`] that names the field.
    pub fn check(&self) -> Result<(), DataError> {
        let size = self.size();
        if !SIZES.contains(&size) {
            return Err(range("size", size, "allowed are 8 to 1024 pixels"));
        }
        if let Some(native) = self.native() {
            let (least, from) = match self {
                // A view larger than the drawing would only blur what could have been drawn.
                Self::Shapes(_) => (size, format!("{size} (size)")),
                _ => (*SIZES.start(), SIZES.start().to_string()),
            };
            if !(least..=*SIZES.end()).contains(&native) {
                let allowed = format!("allowed are {from} to 1024 pixels");
                return Err(range("native", native, &allowed));
            }
        }
        let counts = match self {
            Self::Shapes(set) => {
                [("per_class", Some(set.per_class)), ("eval_per_class", Some(set.eval_per_class))]
            }
            Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Kmnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => [("per_class", set.per_class), ("eval_per_class", None)],
            _ => [("per_class", None), ("eval_per_class", None)],
        };
        for (field, count) in counts {
            if count.is_some_and(|n| n == 0 || n > 1_000_000) {
                return Err(range(field, count.unwrap_or(0), "allowed are 1 to 1,000,000 images"));
            }
        }
        Ok(())
    }

    /// Checks an attack on this set as far as that needs no images: [`PoisonConfig::check`], and where images have a
    /// `native` side, that the trigger fits on them.
    ///
    /// # Errors
    /// Names the field, the value and what is allowed.
    pub fn check_poison(&self, poison: &PoisonConfig) -> Result<(), TriggerError> {
        poison.check(self.size())?;
        self.native().map_or(Ok(()), |native| poison.check_native(native, self.size()))
    }

    /// The same set with views and evaluation images of `size` pixels a side. Drawings become as large, if they were
    /// smaller.
    pub fn with_size(mut self, size: u32) -> Self {
        *match &mut self {
            Self::Shapes(set) => {
                set.native = set.native.map(|native| native.max(size));
                &mut set.size
            }
            Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Kmnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => &mut set.size,
            Self::Stl10(set) => &mut set.size,
            Self::Folder(set) | Self::Imagenet100(set) | Self::TinyImagenet(set) => &mut set.size,
            Self::FileList(set) => &mut set.size,
        } = size;
        self
    }

    /// Side of the images as they are stored, where all have one and none is drawn or decoded from a file.
    pub fn stored_size(&self) -> Option<u32> {
        match self {
            Self::Mnist(_) | Self::FashionMnist(_) | Self::Kmnist(_) => Some(28),
            Self::Cifar10(_) | Self::Cifar100(_) => Some(32),
            Self::Stl10(_) => Some(96),
            Self::Shapes(_)
            | Self::Folder(_)
            | Self::Imagenet100(_)
            | Self::TinyImagenet(_)
            | Self::FileList(_) => None,
        }
    }

    /// Side of the square views and evaluation images in pixels.
    pub fn size(&self) -> u32 {
        self.common().0
    }

    /// The side of the images that triggers are pasted on and crops are cut from, where it is set.
    pub fn native(&self) -> Option<u32> {
        match self {
            Self::Shapes(set) => set.native,
            Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Kmnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => set.native,
            Self::Stl10(set) => set.native,
            Self::Folder(_) | Self::Imagenet100(_) | Self::TinyImagenet(_) | Self::FileList(_) => {
                None
            }
        }
    }

    /// Seed of the labelled subsets.
    pub fn seed(&self) -> u64 {
        self.common().1
    }

    /// Which part the run is scored on.
    pub fn eval(&self) -> Eval {
        self.common().2
    }

    /// What every set has: size, seed, part.
    fn common(&self) -> (u32, u64, Eval) {
        match self {
            Self::Shapes(set) => (set.size, set.seed, set.eval),
            Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Kmnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => (set.size, set.seed, set.eval),
            Self::Stl10(set) => (set.size, set.seed, set.eval),
            Self::Folder(set) | Self::Imagenet100(set) | Self::TinyImagenet(set) => {
                (set.size, set.seed, set.eval)
            }
            Self::FileList(set) => (set.size, set.seed, set.eval),
        }
    }

    /// Every path of the table.
    pub fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Shapes(_) => Vec::new(),
            Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Kmnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => set.path.iter_mut().collect(),
            Self::Stl10(set) => vec![&mut set.path],
            Self::Folder(set) | Self::Imagenet100(set) | Self::TinyImagenet(set) => {
                let Folder { path, labelled, cache, .. } = set;
                std::iter::once(path).chain(labelled).chain(cache).collect()
            }
            Self::FileList(set) => {
                let FileList { train, val, root, labelled, cache, .. } = set;
                [train, val].into_iter().chain(root).chain(labelled).chain(cache).collect()
            }
        }
    }

    /// Class names, as far as they are known without reading anything.
    pub fn class_names(&self) -> Option<Vec<String>> {
        let names = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());
        match self {
            Self::Shapes(_) => names(&shapes::CLASSES),
            Self::Mnist(_) => names(&mnist::MNIST.classes),
            Self::FashionMnist(_) => names(&mnist::FASHION_MNIST.classes),
            Self::Kmnist(_) => names(&mnist::KMNIST.classes),
            Self::Cifar10(_) => names(&cifar::CIFAR10_CLASSES),
            Self::Cifar100(_) => Some((0..100).map(|class| class.to_string()).collect()),
            Self::Stl10(_) => names(&stl10::CLASSES),
            Self::Imagenet100(_) => names(&imagenet100::WNIDS),
            Self::Folder(_) | Self::FileList(_) | Self::TinyImagenet(_) => None,
        }
    }
}

fn range(field: &str, value: impl ToString, allowed: &str) -> DataError {
    OutOfRange::new(field, value, allowed).into()
}
