//! The `[data]` table: which set, from where, at which size, and its splits.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::sample::InMemory;
use crate::{DataError, SampleSet, fashion_mnist, shapes};

/// Which part of the test images a run is scored on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Eval {
    /// The part that settings may be chosen on.
    #[default]
    Dev,
    /// The part that is looked at once per committed result.
    Test,
}

/// Sizes an image may have, in pixels.
const SIZES: std::ops::RangeInclusive<u32> = 8..=1024;

/// The `[data]` table of a config. One arm per data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DataConfig {
    /// Ten classes drawn from a seed; needs no files.
    Shapes {
        /// Side of the square images in pixels, 8 to 1024.
        size: u32,
        /// Training images per class.
        per_class: u32,
        /// Evaluation images per class.
        #[serde(default = "default_eval_per_class")]
        eval_per_class: u32,
        /// Seed of the drawings (the run's own seed does not change the data set).
        #[serde(default)]
        seed: u64,
        /// Which evaluation images.
        #[serde(default)]
        eval: Eval,
    },
    /// Fashion-MNIST from IDX files, plain or gzip.
    FashionMnist {
        /// Folder with the four files; absent = where Debian's `dataset-fashion-mnist` puts them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<PathBuf>,
        /// Side the 28×28 images are resized to, 8 to 1024.
        size: u32,
        /// Training images per class (a seeded sample); absent = all 6,000.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_class: Option<u32>,
        /// Seed of that sample and of the labelled subsets.
        #[serde(default)]
        seed: u64,
        /// `dev` = the first 5,000 test images, `test` = the last 5,000.
        #[serde(default)]
        eval: Eval,
    },
}

fn default_eval_per_class() -> u32 {
    200
}

/// A data set, read.
#[derive(Clone)]
pub struct Splits {
    /// Images for pretraining; the probe's labelled subset is a part of them.
    pub train: SampleSet,
    /// Images the run is scored on.
    pub eval: SampleSet,
    /// Images for curves along the training: always the `dev` part.
    pub dev: SampleSet,
    /// (image id, class) of every training image, in order.
    pub train_labels: Vec<(u64, u32)>,
    /// Class names, by class.
    pub classes: Vec<String>,
    /// Name for provenance: the source of image `id` is `{name}#{id}`.
    pub name: String,
}

impl DataConfig {
    /// Checks sizes, without reading anything.
    ///
    /// # Errors
    /// [`DataError::Range`] that names the key.
    pub fn check(&self) -> Result<(), DataError> {
        let size = self.size();
        if !SIZES.contains(&size) {
            return Err(range("data.size", size, "allowed are 8 to 1024 pixels"));
        }
        let counts = match *self {
            Self::Shapes { per_class, eval_per_class, .. } => {
                [("data.per_class", Some(per_class)), ("data.eval_per_class", Some(eval_per_class))]
            }
            Self::FashionMnist { per_class, .. } => {
                [("data.per_class", per_class), ("data.per_class", None)]
            }
        };
        for (key, count) in counts {
            if count.is_some_and(|n| n == 0 || n > 1_000_000) {
                return Err(range(key, count.unwrap_or(0), "allowed are 1 to 1,000,000 images"));
            }
        }
        Ok(())
    }

    /// Side of the square images in pixels.
    pub fn size(&self) -> u32 {
        match *self {
            Self::Shapes { size, .. } | Self::FashionMnist { size, .. } => size,
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> u32 {
        match self {
            Self::Shapes { .. } => shapes::CLASSES.len() as u32,
            Self::FashionMnist { .. } => fashion_mnist::CLASSES.len() as u32,
        }
    }

    /// Seed of the labelled subsets.
    pub fn seed(&self) -> u64 {
        match *self {
            Self::Shapes { seed, .. } | Self::FashionMnist { seed, .. } => seed,
        }
    }

    /// Which part the run is scored on.
    pub fn eval(&self) -> Eval {
        match *self {
            Self::Shapes { eval, .. } | Self::FashionMnist { eval, .. } => eval,
        }
    }

    /// Reads or draws the whole set.
    ///
    /// # Errors
    /// A value out of range, or a file that is missing, truncated or malformed.
    pub fn load(&self) -> Result<Splits, DataError> {
        self.check()?;
        let (train, dev, test, classes, name) = match self {
            Self::Shapes { size, per_class, eval_per_class, seed, .. } => {
                let draw = |split, n| shapes::draw_set(*size, n, *seed, split);
                let name = format!("shapes(size={size},seed={seed})");
                (
                    draw(shapes::Split::Train, *per_class),
                    draw(shapes::Split::Dev, *eval_per_class),
                    draw(shapes::Split::Test, *eval_per_class),
                    shapes::CLASSES,
                    name,
                )
            }
            Self::FashionMnist { path, size, per_class, seed, .. } => {
                let sets = fashion_mnist::read(path.as_deref(), *size, *per_class, *seed)?;
                let [train, dev, test] = sets;
                (train, dev, test, fashion_mnist::CLASSES, format!("fashion-mnist(size={size})"))
            }
        };
        let train_labels = train.iter().map(|s| (s.id, s.label)).collect();
        let dev: SampleSet = Arc::new(InMemory::new(dev));
        let eval = match self.eval() {
            Eval::Dev => dev.clone(),
            Eval::Test => Arc::new(InMemory::new(test)),
        };
        Ok(Splits {
            train: Arc::new(InMemory::new(train)),
            eval,
            dev,
            train_labels,
            classes: classes.iter().map(|c| c.to_string()).collect(),
            name,
        })
    }
}

fn range(key: &'static str, value: impl ToString, allowed: &str) -> DataError {
    DataError::Range { key, value: value.to_string(), allowed: allowed.into() }
}
