//! Reading the data set of a `[data]` table: one arm for each kind.

use std::path::PathBuf;

use crate::assemble::MemoryParts;
use crate::config::{DataConfig, Eval};
use crate::file_parts::FileParts;
use crate::sets::small::{self, Held, Part};
use crate::sets::{cifar, imagenet100, mnist, shapes, stl10};
use crate::{DataError, Splits, Watch};

/// The parts of a set that was read.
enum Found {
    InMemory(MemoryParts),
    InFiles(FileParts),
}

impl DataConfig {
    /// Reads or draws the whole set; image files are listed, and decoded on access.
    ///
    /// # Errors
    /// A value out of range, or a file that is missing, truncated or malformed.
    pub fn load(&self, watch: &Watch<'_>) -> Result<Splits, DataError> {
        self.load_part(self.eval(), watch)
    }

    /// The same, scored on `part` regardless of the config.
    ///
    /// # Errors
    /// As [`DataConfig::load`].
    pub fn load_part(&self, part: Eval, watch: &Watch<'_>) -> Result<Splits, DataError> {
        self.check()?;
        let mut splits = match self.read()? {
            Found::InMemory(parts) => Splits::of_memory(parts, self.size(), part),
            Found::InFiles(parts) => {
                Splits::of_files(parts, self.size(), self.seed(), part, watch)?
            }
        };
        if let Self::Shapes(set) = self {
            let size = set.native.unwrap_or(set.size);
            splits.outlines = Some(shapes::Outlines { size, seed: set.seed });
        }
        splits.check_parts(part)?;
        Ok(splits)
    }

    /// Reads a set that fits in memory, lists the files of any other.
    fn read(&self) -> Result<Found, DataError> {
        let seed = self.seed();
        let native = self.native().unwrap_or(self.size());
        let small = |parts: [Part; 2], per_class, name: &str| {
            let classes = self.class_names().unwrap_or_default().len() as u32;
            let sets = small::splits(parts, classes, native, per_class, seed);
            self.in_memory(sets, format!("{name}({})", self.sides()))
        };
        let needed = |path: &Option<PathBuf>| {
            let hint = "Set it to the folder with the unpacked binary or Python version.";
            path.clone().ok_or_else(|| DataError::Unset { field: "path", hint: hint.into() })
        };
        Ok(match self {
            Self::Shapes(set) => {
                let draw = |split, n| shapes::draw_set(native, n, seed, split);
                let sets = [
                    draw(shapes::Split::Train, set.per_class),
                    draw(shapes::Split::Dev, set.eval_per_class),
                    draw(shapes::Split::Test, set.eval_per_class),
                ];
                let sets = sets.map(|samples| Held::new(samples, native));
                self.in_memory(sets, format!("shapes({},seed={seed})", self.sides()))
            }
            Self::Mnist(set) => {
                small(mnist::MNIST.read(set.path.as_deref())?, set.per_class, "mnist")
            }
            Self::FashionMnist(set) => {
                let parts = mnist::FASHION_MNIST.read(set.path.as_deref())?;
                small(parts, set.per_class, "fashion-mnist")
            }
            Self::Kmnist(set) => {
                small(mnist::KMNIST.read(set.path.as_deref())?, set.per_class, "kmnist")
            }
            Self::Cifar10(set) => {
                small(cifar::CIFAR10.read(&needed(&set.path)?)?, set.per_class, "cifar10")
            }
            Self::Cifar100(set) => {
                small(cifar::CIFAR100.read(&needed(&set.path)?)?, set.per_class, "cifar100")
            }
            Self::Stl10(set) => small(stl10::load(&set.path, set.unlabelled)?, None, "stl10"),
            Self::Folder(set) => Found::InFiles(FileParts::of_folder(set, None)?),
            Self::Imagenet100(set) => {
                let classes = imagenet100::WNIDS.map(str::to_owned).to_vec();
                Found::InFiles(FileParts::of_folder(set, Some(classes))?)
            }
            Self::TinyImagenet(set) => Found::InFiles(FileParts::of_tiny_imagenet(set)?),
            Self::FileList(set) => Found::InFiles(FileParts::of_lists(set)?),
        })
    }

    fn in_memory(&self, sets: [Held; 3], name: String) -> Found {
        Found::InMemory(MemoryParts { sets, classes: self.class_names().unwrap_or_default(), name })
    }

    /// The sides of the images, for the set's name, by which ledgers name images without files.
    fn sides(&self) -> String {
        let size = self.size();
        match self.native() {
            Some(native) if native != size => format!("size={size},native={native}"),
            _ => format!("size={size}"),
        }
    }

    /// Class names, if they are known without reading anything.
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
