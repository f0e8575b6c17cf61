//! Reading the data set that a `[data]` table names: one arm for each kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn_dataset::Dataset;

use crate::augment::shorter_side;
use crate::cache::Cache;
use crate::config::{DataConfig, Eval, FileList, Folder, OnCorrupt};
use crate::halves::{Order, halves};
use crate::sets::small::{self, Held, Part};
use crate::sets::{
    cifar, file_list, files::Files, folder, imagenet100, mnist, shapes, stl10, tiny_imagenet,
};
use crate::splits::{Fingerprint, Split, Splits, prepared};
use crate::{DataError, SampleSet};

/// Told of the progress of what may take long: what is done, how much of it, of how much.
pub type Watch<'a> = dyn Fn(&str, usize, usize) + Sync + 'a;

impl DataConfig {
    /// Reads or draws the whole set; image files are listed, and decoded when they are asked for.
    ///
    /// # Errors
    /// A value out of range, or a file that is missing, truncated or malformed.
    pub fn load(&self, watch: &Watch<'_>) -> Result<Splits, DataError> {
        self.load_part(self.eval(), watch)
    }

    /// The same, scored on `part` whatever the config says.
    ///
    /// # Errors
    /// As [`DataConfig::load`].
    pub fn load_part(&self, part: Eval, watch: &Watch<'_>) -> Result<Splits, DataError> {
        self.check()?;
        let (size, seed) = (self.size(), self.seed());
        let small = |parts: [Part; 2], per_class, name: &str| {
            let classes = self.class_names().unwrap_or_default().len() as u32;
            let sets = small::splits(parts, classes, size, per_class, seed);
            self.in_memory(part, sets, format!("{name}(size={size})"))
        };
        let needed = |path: &Option<PathBuf>| {
            let hint = "Set it to the folder with the unpacked binary or Python version.";
            path.clone().ok_or_else(|| DataError::Unset { key: "data.path", hint: hint.into() })
        };
        let splits = match self {
            Self::Shapes(set) => {
                let draw = |split, n| shapes::draw_set(size, n, seed, split);
                let sets = [
                    draw(shapes::Split::Train, set.per_class),
                    draw(shapes::Split::Dev, set.eval_per_class),
                    draw(shapes::Split::Test, set.eval_per_class),
                ];
                let sets = sets.map(|samples| Held::new(samples, size));
                self.in_memory(part, sets, format!("shapes(size={size},seed={seed})"))
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
            Self::Folder(set) => {
                let classes = folder::classes(&set.path.join("train"))?;
                self.folder_splits(part, set, classes, watch)?
            }
            Self::Imagenet100(set) => {
                let classes = imagenet100::WNIDS.map(str::to_owned).to_vec();
                self.folder_splits(part, set, classes, watch)?
            }
            Self::TinyImagenet(set) => self.tiny_imagenet_splits(part, set, watch)?,
            Self::FileList(set) => self.list_splits(part, set, watch)?,
        };
        splits.check_parts(part)?;
        Ok(splits)
    }

    fn in_memory(&self, part: Eval, [train, dev, test]: [Held; 3], name: String) -> Splits {
        let fingerprint = Fingerprint {
            train: train.hash,
            eval: match part {
                Eval::Dev => dev.hash.clone(),
                Eval::Test => test.hash,
                Eval::All => format!("{}+{}", dev.hash, test.hash),
            },
            dev: dev.hash,
        };
        let (train, dev, test) = (train.split, dev.split, test.split);
        Splits {
            plain: train.set.clone(),
            train,
            cached: None,
            eval: match part {
                Eval::Dev => dev.clone(),
                Eval::Test => test,
                Eval::All => dev.followed_by(&test),
            },
            dev,
            classes: self.class_names().unwrap_or_default(),
            name,
            fingerprint,
            skipped: Vec::new(),
            size: self.size(),
        }
    }

    fn folder_splits(
        &self,
        part: Eval,
        set: &Folder,
        classes: Vec<String>,
        watch: &Watch<'_>,
    ) -> Result<Splits, DataError> {
        let list = |split: &str| folder::list(&set.path.join(split), &classes);
        let files = |split| Files::new(list(split)?, &set.path, set.exif_orientation);
        let how = (set.on_corrupt, set.cache.as_deref());
        self.file_splits(part, [files("train")?, files("val")?], classes, how, watch)
    }

    fn tiny_imagenet_splits(
        &self,
        part: Eval,
        set: &Folder,
        watch: &Watch<'_>,
    ) -> Result<Splits, DataError> {
        let tiny_imagenet::Listed { root, wnids, train, val } = tiny_imagenet::list(&set.path)?;
        let files = |entries| Files::new(entries, &root, set.exif_orientation);
        let how = (set.on_corrupt, set.cache.as_deref());
        self.file_splits(part, [files(train)?, files(val)?], wnids, how, watch)
    }

    fn list_splits(
        &self,
        part: Eval,
        set: &FileList,
        watch: &Watch<'_>,
    ) -> Result<Splits, DataError> {
        let list = |list: &Path| file_list::load(list, set.root.as_deref());
        let root =
            |list: &Path| set.root.as_deref().or(list.parent()).unwrap_or(Path::new("")).to_owned();
        let (train, val) = (list(&set.train)?, list(&set.val)?);
        let both: Vec<_> = train.iter().chain(&val).cloned().collect();
        let classes = file_list::class_names(&both);
        let exif = set.exif_orientation;
        let files =
            [Files::new(train, &root(&set.train), exif)?, Files::new(val, &root(&set.val), exif)?];
        self.file_splits(part, files, classes, (set.on_corrupt, set.cache.as_deref()), watch)
    }

    fn file_splits(
        &self,
        part: Eval,
        [train, val]: [Files; 2],
        classes: Vec<String>,
        (on_corrupt, cache): (OnCorrupt, Option<&Path>),
        watch: &Watch<'_>,
    ) -> Result<Splits, DataError> {
        let (size, seed) = (self.size(), self.seed());
        let skip = on_corrupt == OnCorrupt::Skip;
        let stamp = train.stamp()?;
        let mut skipped = Vec::new();
        let mut leave_out = |files: Files, bad: Vec<(usize, DataError)>| {
            let corrupt: Vec<usize> = bad.iter().map(|(i, _)| *i).collect();
            skipped.extend(bad.into_iter().map(|(_, error)| error.to_string()));
            let whole = |i: &usize| corrupt.binary_search(i).is_err();
            files.at(&(0..files.len()).filter(whole).collect::<Vec<_>>())
        };
        let (train, cached) = match cache {
            None if skip => {
                let bad = train.corrupt(watch);
                (leave_out(train, bad), None)
            }
            None => (train, None),
            Some(folder) => {
                let shorter = shorter_side(size);
                let (cache, bad) = Cache::open(folder, &train, &stamp, shorter, skip, watch)?;
                let set: SampleSet = Arc::new(cache);
                (leave_out(train, bad), Some((set, shorter)))
            }
        };
        let val = if skip {
            let bad = val.corrupt(watch);
            leave_out(val, bad)
        } else {
            val
        };
        let order = Order::Ranked { classes: classes.len() as u32, seed };
        let halves = halves(&val.labels(), order);
        let dev_hash = val.at(&halves[0]).fingerprint()?;
        let fingerprint = Fingerprint {
            train: train.fingerprint()?,
            eval: match part {
                Eval::Dev => dev_hash.clone(),
                Eval::Test => val.at(&halves[1]).fingerprint()?,
                Eval::All => val.fingerprint()?,
            },
            dev: dev_hash,
        };
        let (train, val) = (Split::of_files(train), Split::of_files(val));
        let [dev, test] = halves.map(|at| val.at(at));
        let plain = cached.as_ref().map_or(&train.set, |(set, _)| set).clone();
        Ok(Splits {
            train,
            cached,
            plain: prepared(plain, size),
            eval: match part {
                Eval::Dev => dev.clone(),
                Eval::Test => test,
                Eval::All => val,
            },
            dev,
            classes,
            name: "files".into(),
            fingerprint,
            skipped,
            size,
        })
    }
}
