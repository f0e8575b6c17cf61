//! Reading the data set that a `[data]` table names: one arm for each kind.

use std::path::PathBuf;
use std::sync::Arc;

use crate::augment::shorter_side;
use crate::cache::Cache;
use crate::config::{DataConfig, Eval};
use crate::file_parts::FileParts;
use crate::halves::{Order, halves};
use crate::preparation::Preparation;
use crate::sets::files::Files;
use crate::sets::small::{self, Held, Part};
use crate::sets::{cifar, imagenet100, mnist, shapes, stl10};
use crate::splits::{Fingerprint, Split, Splits};
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
        let native = self.native().unwrap_or(size);
        // In the set's name: ledgers name the images of a set without files by it.
        let sides = match native {
            native if native == size => format!("size={size}"),
            native => format!("size={size},native={native}"),
        };
        let small = |parts: [Part; 2], per_class, name: &str| {
            let classes = self.class_names().unwrap_or_default().len() as u32;
            let sets = small::splits(parts, classes, native, per_class, seed);
            self.in_memory(part, sets, format!("{name}({sides})"))
        };
        let needed = |path: &Option<PathBuf>| {
            let hint = "Set it to the folder with the unpacked binary or Python version.";
            path.clone().ok_or_else(|| DataError::Unset { field: "path", hint: hint.into() })
        };
        let splits = match self {
            Self::Shapes(set) => {
                let draw = |split, n| shapes::draw_set(native, n, seed, split);
                let sets = [
                    draw(shapes::Split::Train, set.per_class),
                    draw(shapes::Split::Dev, set.eval_per_class),
                    draw(shapes::Split::Test, set.eval_per_class),
                ];
                let sets = sets.map(|samples| Held::new(samples, native));
                self.in_memory(part, sets, format!("shapes({sides},seed={seed})"))
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
            Self::Folder(set) => self.file_splits(part, FileParts::of_folder(set, None)?, watch)?,
            Self::Imagenet100(set) => {
                let classes = imagenet100::WNIDS.map(str::to_owned).to_vec();
                self.file_splits(part, FileParts::of_folder(set, Some(classes))?, watch)?
            }
            Self::TinyImagenet(set) => {
                self.file_splits(part, FileParts::of_tiny_imagenet(set)?, watch)?
            }
            Self::FileList(set) => self.file_splits(part, FileParts::of_lists(set)?, watch)?,
        };
        splits.check_parts(part)?;
        Ok(splits)
    }

    fn in_memory(&self, part: Eval, [train, dev, test]: [Held; 3], name: String) -> Splits {
        let fingerprint = Fingerprint {
            labelled: train.hash.clone(),
            train: train.hash,
            eval: match part {
                Eval::Dev => dev.hash.clone(),
                Eval::Test => test.hash,
                Eval::All => format!("{}+{}", dev.hash, test.hash),
            },
            dev: dev.hash,
        };
        let (train, dev, test) = (train.split, dev.split, test.split);
        let preparation = Preparation { size: self.size(), whole: true };
        Splits {
            plain: preparation.of(train.set.clone()),
            labelled: train.clone(),
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
            left_out: Vec::new(),
            skipped: Vec::new(),
            preparation,
        }
    }

    fn file_splits(
        &self,
        part: Eval,
        parts: FileParts,
        watch: &Watch<'_>,
    ) -> Result<Splits, DataError> {
        let (size, seed) = (self.size(), self.seed());
        let FileParts { train, val, labelled, classes, cache, mut tally } = parts;
        let skip = tally.skips();
        let mut whole = |files: Files| match skip {
            true => {
                let bad = files.corrupt(watch);
                files.without(bad, &mut tally)
            }
            false => Ok(files),
        };
        let val = whole(val)?;
        let labelled = labelled.map(&mut whole).transpose()?;
        let (train, cached) = match cache {
            None => (whole(train)?, None),
            Some(folder) => {
                let (shorter, stamp) = (shorter_side(size), train.stamp()?);
                let (cache, bad) = Cache::open(&folder, &train, &stamp, shorter, skip, watch)?;
                let set: SampleSet = Arc::new(cache);
                (train.without(bad, &mut tally)?, Some((set, shorter)))
            }
        };
        let order = Order::Ranked { classes: classes.len() as u32, seed };
        let halves = halves(&val.labels(), order);
        let dev_hash = val.at(&halves[0]).fingerprint()?;
        let train_hash = train.fingerprint()?;
        let fingerprint = Fingerprint {
            labelled: match &labelled {
                Some(labelled) => labelled.fingerprint()?,
                None => train_hash.clone(),
            },
            train: train_hash,
            eval: match part {
                Eval::Dev => dev_hash.clone(),
                Eval::Test => val.at(&halves[1]).fingerprint()?,
                Eval::All => val.fingerprint()?,
            },
            dev: dev_hash,
        };
        let (train, val) = (Split::of_files(train), Split::of_files(val));
        let [dev, test] = halves.map(|at| val.at(at));
        let plain = match (&labelled, &cached) {
            (Some(_), _) => None,
            (None, Some((set, _))) => Some(set.clone()),
            (None, None) => Some(train.set.clone()),
        };
        let labelled = labelled.map_or_else(|| train.clone(), Split::of_files);
        let (left_out, skipped) = tally.finish();
        let preparation = Preparation { size, whole: false };
        Ok(Splits {
            train,
            cached,
            plain: preparation.of(plain.unwrap_or_else(|| labelled.set.clone())),
            labelled,
            eval: match part {
                Eval::Dev => dev.clone(),
                Eval::Test => test,
                Eval::All => val,
            },
            dev,
            classes,
            name: "files".into(),
            fingerprint,
            left_out,
            skipped,
            preparation,
        })
    }
}
