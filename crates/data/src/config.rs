//! The `[data]` table: which set, from where, at which size, and which part is scored.

mod tables;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_trigger::{Compose, PoisonConfig, TriggerError};

pub(crate) use tables::default_eval_per_class;
pub use tables::{Eval, FileList, Folder, OnCorrupt, Shapes, SmallSet, Stl10};

use crate::DataError;

/// Allowed image sizes in pixels.
const SIZES: std::ops::RangeInclusive<u32> = 8..=1024;

/// The `[data]` table: which images, from where, at which size, and which part is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DataConfig {
    /// Ten classes of shapes, drawn from a seed. Needs no files.
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
    /// Class folders: `PATH/train/CLASS/*` and `PATH/val/CLASS/*`. Images without labels lie directly in `PATH/train`.
    Folder(Folder),
    /// File lists with a line `PATH LABEL` for each image.
    FileList(FileList),
    /// The 100 classes of the paper from an ImageNet folder: `PATH/train/WNID/*` and `PATH/val/WNID/*`.
    Imagenet100(Folder),
    /// Tiny-ImageNet as its archive unpacks: `wnids.txt`, `train/WNID/images/*`, `val/images/*`,
    /// `val/val_annotations.txt`.
    TinyImagenet(Folder),
}

impl DataConfig {
    /// Which data set it is: the value of `kind` in a config.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Shapes(_) => "shapes",
            Self::Mnist(_) => "mnist",
            Self::FashionMnist(_) => "fashion-mnist",
            Self::Kmnist(_) => "kmnist",
            Self::Cifar10(_) => "cifar10",
            Self::Cifar100(_) => "cifar100",
            Self::Stl10(_) => "stl10",
            Self::Folder(_) => "folder",
            Self::FileList(_) => "file-list",
            Self::Imagenet100(_) => "imagenet100",
            Self::TinyImagenet(_) => "tiny-imagenet",
        }
    }

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
                // A view larger than the drawing would only blur detail that could have been drawn.
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

    /// Checks an attack on this set as far as possible without images: [`PoisonConfig::check`], and if images have a
    /// `native` side, that the trigger fits on them.
    ///
    /// # Errors
    /// Names the field, the value and what is allowed.
    pub fn check_poison(&self, poison: &PoisonConfig) -> Result<(), TriggerError> {
        poison.check(self.size())?;
        if let (Some(Compose::CorruptEncoder(_)), false) =
            (&poison.compose, matches!(self, Self::Shapes(_)))
        {
            let allowed =
                "it cuts objects out by their outlines, which only data.kind = \"shapes\" knows";
            return Err(OutOfRange::new("compose.kind", "\"corrupt-encoder\"", allowed).into());
        }
        self.native().map_or(Ok(()), |native| poison.check_native(native, self.size()))
    }

    /// The same set with views and evaluation images of `size` pixels a side. Smaller drawings are enlarged to this
    /// size.
    pub fn with_size(mut self, size: u32) -> Self {
        if let Self::Shapes(set) = &mut self {
            set.native = set.native.map(|native| native.max(size));
        }
        *self.common_mut().0 = size;
        self
    }

    /// The same set, scored on the part `eval`.
    pub fn with_eval(mut self, eval: Eval) -> Self {
        *self.common_mut().1 = eval;
        self
    }

    /// Side of the stored images, if all have the same and none is drawn or decoded from a file.
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

    /// The side of the images that triggers are pasted on and crops are cut from, if it is set.
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

    /// The keys that every set has: size, seed, part.
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

    /// The size and the part, which every set has.
    fn common_mut(&mut self) -> (&mut u32, &mut Eval) {
        match self {
            Self::Shapes(set) => (&mut set.size, &mut set.eval),
            Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Kmnist(set)
            | Self::Cifar10(set)
            | Self::Cifar100(set) => (&mut set.size, &mut set.eval),
            Self::Stl10(set) => (&mut set.size, &mut set.eval),
            Self::Folder(set) | Self::Imagenet100(set) | Self::TinyImagenet(set) => {
                (&mut set.size, &mut set.eval)
            }
            Self::FileList(set) => (&mut set.size, &mut set.eval),
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
}

fn range(field: &str, value: impl ToString, allowed: &str) -> DataError {
    OutOfRange::new(field, value, allowed).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_the_word_of_the_config() {
        let small = ["mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100"];
        let folders = ["stl10", "folder", "imagenet100", "tiny-imagenet"];
        let set = |kind: &&str| format!(r#"{{ "kind": "{kind}", "size": 32 }}"#);
        let folder = |kind: &&str| format!(r#"{{ "kind": "{kind}", "size": 32, "path": "a" }}"#);
        let list = r#"{ "kind": "file-list", "size": 32, "train": "a", "val": "b", "root": "c" }"#;
        let shapes = r#"{ "kind": "shapes", "size": 32, "per_class": 1 }"#;
        let all = small.iter().map(set).chain(folders.iter().map(folder));
        for text in all.chain([list.to_owned(), shapes.to_owned()]) {
            let config: DataConfig = serde_json::from_str(&text).unwrap();
            let value = serde_json::to_value(&config).unwrap();
            assert_eq!(Some(config.kind()), value["kind"].as_str());
        }
    }
}
