//! Reading the data set that a `[data]` table names: one arm for each kind.

use std::path::PathBuf;
use std::sync::Arc;

use burn_dataset::Dataset;
use ssl_backdoor_trigger::chance::{self, Purpose};

use crate::augment::shorter_side;
use crate::cache::Cache;
use crate::config::{DataConfig, Eval};
use crate::file_parts::FileParts;
use crate::sets::{self, Part, cifar, files::Files, imagenet100, mnist, shapes, stl10};
use crate::splits::{Split, Splits, prepared};
use crate::{DataError, Sample, SampleSet};

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
            let classes = self.class_names().unwrap_or_default();
            let [train, test] = &parts;
            let sets = sets::splits(train, test, classes.len() as u32, size, per_class, seed);
            self.in_memory(part, sets, format!("{name}(size={size})"))
        };
        let needed = |path: &Option<PathBuf>| {
            path.clone().ok_or_else(|| DataError::Missing {
                name: "data.path".into(),
                looked: Vec::new(),
                hint: "Set it to the folder with the unpacked binary version.".into(),
            })
        };
        Ok(match self {
            Self::Shapes(set) => {
                let draw = |split, n| shapes::draw_set(size, n, seed, split);
                let sets = [
                    draw(shapes::Split::Train, set.per_class),
                    draw(shapes::Split::Dev, set.eval_per_class),
                    draw(shapes::Split::Test, set.eval_per_class),
                ];
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
            Self::Folder(set) => self.file_splits(part, FileParts::of_folder(set, None)?, watch)?,
            Self::Imagenet100(set) => {
                let classes = imagenet100::WNIDS.map(str::to_owned).to_vec();
                self.file_splits(part, FileParts::of_folder(set, Some(classes))?, watch)?
            }
            Self::FileList(set) => self.file_splits(part, FileParts::of_lists(set)?, watch)?,
        })
    }

    fn in_memory(&self, part: Eval, sets: [Vec<Sample>; 3], name: String) -> Splits {
        let mut hasher = blake3::Hasher::new();
        for sample in sets.iter().flatten() {
            hasher.update(&sample.id.to_le_bytes());
            hasher.update(&sample.label.to_le_bytes());
            hasher.update(sample.image.as_raw());
        }
        let [train, dev, test] = sets;
        let eval = match part {
            Eval::Dev => Split::in_memory(dev.clone()),
            Eval::Test => Split::in_memory(test),
            Eval::All => Split::in_memory(dev.iter().cloned().chain(test).collect()),
        };
        let train = Split::in_memory(train);
        Splits {
            plain: train.set.clone(),
            labelled: train.clone(),
            train,
            cached: None,
            eval,
            dev: Split::in_memory(dev),
            classes: self.class_names().unwrap_or_default(),
            name,
            fingerprint: hasher.finalize().to_hex().to_string(),
            left_out: Vec::new(),
            skipped: Vec::new(),
            size: self.size(),
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
        let mut hasher = blake3::Hasher::new();
        let fingerprint = train.fingerprint()?;
        hasher.update(fingerprint.as_bytes()).update(val.fingerprint()?.as_bytes());
        if let Some(labelled) = &labelled {
            hasher.update(labelled.fingerprint()?.as_bytes());
        }
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
                let shorter = shorter_side(size);
                let path = folder.join(format!("train-{shorter}.pack"));
                let (cache, bad) = Cache::open(&path, &train, &fingerprint, shorter, skip, watch)?;
                let bad = bad.into_iter().filter_map(|i| Some((i, train.get(i).err()?))).collect();
                let set: SampleSet = Arc::new(cache);
                (train.without(bad, &mut tally)?, Some((set, shorter)))
            }
        };
        let (train, val) = (Split::of_files(train), Split::of_files(val));
        let [dev, test] = halves(&val.labels, classes.len() as u32, seed).map(|at| val.at(at));
        let plain = match (&labelled, &cached) {
            (Some(_), _) => None,
            (None, Some((set, _))) => Some(set.clone()),
            (None, None) => Some(train.set.clone()),
        };
        let labelled = labelled.map_or_else(|| train.clone(), Split::of_files);
        let (left_out, skipped) = tally.finish();
        Ok(Splits {
            train,
            cached,
            plain: prepared(plain.unwrap_or_else(|| labelled.set.clone()), size),
            labelled,
            eval: match part {
                Eval::Dev => dev.clone(),
                Eval::Test => test,
                Eval::All => val,
            },
            dev,
            classes,
            name: "files".into(),
            fingerprint: hasher.finalize().to_hex().to_string(),
            left_out,
            skipped,
            size,
        })
    }
}

/// Positions of two halves of each class, by rank: they do not depend on the order.
fn halves(labels: &[(u64, u32)], classes: u32, seed: u64) -> [Vec<usize>; 2] {
    let mut first = std::collections::HashSet::new();
    for class in 0..classes {
        let of: Vec<u64> = labels.iter().filter(|(_, c)| *c == class).map(|(id, _)| *id).collect();
        let half = of.len().div_ceil(2);
        first.extend(chance::ranked(&of, seed, Purpose::Halves, 0).into_iter().take(half));
    }
    let dev = |i: &usize| first.contains(&labels[*i].0);
    (0..labels.len()).partition::<Vec<usize>, _>(dev).into()
}
