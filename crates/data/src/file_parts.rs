//! The parts of a set of image files: the images in its folders or lists, and the classes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::{FileList, Folder};
use crate::left_out::{LeftOutKind, Tally};
use crate::sets::files::{Files, present};
use crate::sets::folder::{self, Entry};
use crate::sets::input::format;
use crate::sets::{file_list, tiny_imagenet};
use crate::{DataError, UNLABELLED};

/// The error for a folder without `train`.
fn not_split(folder: &Path) -> DataError {
    let reason = "it has no folder train: expected train/CLASS/*.jpg and val/CLASS/*.jpg. Class folders that are not \
                  split can be read by file lists";
    format(folder, reason.into())
}

/// The parts of a set; nothing is decoded yet.
pub(crate) struct FileParts {
    pub train: Files,
    pub val: Files,
    /// The images of the config's `labelled`.
    pub labelled: Option<Files>,
    pub classes: Vec<String>,
    pub cache: Option<PathBuf>,
    pub tally: Tally,
}

impl FileParts {
    /// The parts of an image folder, with the classes `fixed` or those of its class folders.
    pub fn of_folder(set: &Folder, fixed: Option<Vec<String>>) -> Result<Self, DataError> {
        let mut tally = Tally::new(set.on_corrupt);
        let [train, val] = ["train", "val"].map(|part| set.path.join(part));
        if set.path.is_dir() && !train.exists() {
            return Err(not_split(&set.path));
        }
        let (entries, known) = match fixed {
            None => {
                let found = folder::training(&train, &mut tally)?;
                (found.entries, found.classes)
            }
            Some(classes) => {
                folder::others(&train, &classes, &mut tally)?;
                (folder::of_classes(&train, &classes, &mut tally)?, Some(classes))
            }
        };
        let pool = set.labelled.as_deref();
        let pool =
            pool.map(|path| Pool::read(path, None, known.as_deref(), &mut tally)).transpose()?;
        let classes = match known.or_else(|| pool.as_ref()?.classes.clone()) {
            Some(classes) => classes,
            // Other contents of the folder are counted below.
            None => folder::classes(&val, &mut Tally::new(set.on_corrupt))?,
        };
        if let Some(pool) = &pool {
            pool.check(classes.len())?;
        }
        let evaluated = folder::evaluation(&val, &classes, &mut tally)?;
        let mut files = |entries, root: &Path| {
            Files::new(present(entries, &mut tally)?, root, set.exif_orientation)
        };
        Ok(Self {
            train: files(entries, &set.path)?,
            val: files(evaluated, &set.path)?,
            labelled: pool.map(|pool| files(pool.entries, &pool.root)).transpose()?,
            classes,
            cache: set.cache.clone(),
            tally,
        })
    }

    /// The parts of Tiny ImageNet.
    pub fn of_tiny_imagenet(set: &Folder) -> Result<Self, DataError> {
        let mut tally = Tally::new(set.on_corrupt);
        let tiny_imagenet::Listed { root, wnids, train, val } =
            tiny_imagenet::list(&set.path, &mut tally)?;
        let pool = set.labelled.as_deref();
        let pool = pool.map(|path| Pool::read(path, None, Some(&wnids), &mut tally)).transpose()?;
        if let Some(pool) = &pool {
            pool.check(wnids.len())?;
        }
        let mut files = |entries, root: &Path| {
            Files::new(present(entries, &mut tally)?, root, set.exif_orientation)
        };
        Ok(Self {
            train: files(train, &root)?,
            val: files(val, &root)?,
            labelled: pool.map(|pool| files(pool.entries, &pool.root)).transpose()?,
            classes: wnids,
            cache: set.cache.clone(),
            tally,
        })
    }

    /// The parts that file lists name.
    pub fn of_lists(set: &FileList) -> Result<Self, DataError> {
        let mut tally = Tally::new(set.on_corrupt);
        let root = set.root.as_deref();
        let (train, val) = (file_list::load(&set.train, root)?, file_list::load(&set.val, root)?);
        let pool = set.labelled.as_deref();
        let pool = pool.map(|path| Pool::read(path, root, None, &mut tally)).transpose()?;
        every_label(&set.val, &val, "an evaluation image needs one")?;
        // The classes that the probe can learn.
        let mut learned: BTreeSet<u32> = labels(&train).collect();
        if learned.is_empty() {
            learned.extend(labels(pool.as_ref().map_or(&val, |pool| &pool.entries)));
        }
        let (val, others): (Vec<Entry>, Vec<Entry>) =
            val.into_iter().partition(|entry| learned.contains(&entry.label));
        if let Some(first) = others.first() {
            tally.add_many(LeftOutKind::UntrainedClass, others.len(), &first.path);
        }
        if val.is_empty() {
            return Err(format(&set.val, "no image belongs to a training class".into()));
        }
        let scored: BTreeSet<u32> = labels(&val).collect();
        let all = || train.iter().chain(pool.iter().flat_map(|pool| &pool.entries)).chain(&val);
        for class in learned.difference(&scored) {
            if let Some(example) = all().find(|entry| entry.label == *class) {
                tally.add(LeftOutKind::ClassNotInVal, &example.path);
            }
        }
        let all: Vec<Entry> = all().cloned().collect();
        let classes = match pool.as_ref().and_then(|pool| pool.classes.clone()) {
            Some(classes) => named_alike(&set.train, classes, &all)?,
            None => file_list::class_names(&all),
        };
        let own = |list: &Path| root.or(list.parent()).unwrap_or(Path::new("")).to_owned();
        let mut files = |entries, root: &Path| {
            Files::new(present(entries, &mut tally)?, root, set.exif_orientation)
        };
        Ok(Self {
            train: files(train, &own(&set.train))?,
            val: files(val, &own(&set.val))?,
            labelled: pool.map(|pool| files(pool.entries, &pool.root)).transpose()?,
            classes,
            cache: set.cache.clone(),
            tally,
        })
    }
}

/// The labels of the entries that carry one.
fn labels(entries: &[Entry]) -> impl Iterator<Item = u32> + '_ {
    entries.iter().map(|entry| entry.label).filter(|&label| label != UNLABELLED)
}

/// Checks that every image of a list has a label.
fn every_label(list: &Path, entries: &[Entry], why: &str) -> Result<(), DataError> {
    match entries.iter().find(|entry| entry.label == UNLABELLED) {
        None => Ok(()),
        Some(entry) => Err(format(list, format!("{} has no label: {why}", entry.path.display()))),
    }
}

/// `classes`, the names of class folders, if every class number in the lists is one of theirs.
fn named_alike(
    list: &Path,
    classes: Vec<String>,
    entries: &[Entry],
) -> Result<Vec<String>, DataError> {
    let count = classes.len();
    if let Some(entry) = entries.iter().find(|e| e.label != UNLABELLED && e.label as usize >= count)
    {
        let (shown, label) = (entry.path.display(), entry.label);
        let reason = format!(
            "{shown} is of class {label}, but the labelled images have {count} class folders, 0 to {}",
            count - 1
        );
        return Err(format(list, reason));
    }
    Ok(classes)
}

/// The images of the config's `labelled`.
struct Pool {
    path: PathBuf,
    root: PathBuf,
    entries: Vec<Entry>,
    /// The names of its class folders, if it has any and no classes were known.
    classes: Option<Vec<String>>,
}

impl Pool {
    /// Reads a folder of class folders, only of the classes `known` if given, or a list whose paths start at `root`.
    fn read(
        path: &Path,
        root: Option<&Path>,
        known: Option<&[String]>,
        tally: &mut Tally,
    ) -> Result<Self, DataError> {
        if !path.is_dir() {
            let entries = file_list::load(path, root)?;
            every_label(path, &entries, "`labelled` names labelled images")?;
            let root = root.or(path.parent()).unwrap_or(Path::new("")).to_owned();
            return Ok(Self { path: path.into(), root, entries, classes: None });
        }
        let (entries, classes) = match known {
            Some(known) => (folder::of_known(path, known, tally)?.0, None),
            None => {
                let classes = folder::classes(path, tally)?;
                (folder::of_classes(path, &classes, tally)?, Some(classes))
            }
        };
        Ok(Self { path: path.into(), root: path.into(), entries, classes })
    }

    /// Checks that every image is of one of this many classes.
    fn check(&self, classes: usize) -> Result<(), DataError> {
        match self.entries.iter().find(|entry| entry.label as usize >= classes) {
            None => Ok(()),
            Some(Entry { path, label }) => {
                let reason = format!(
                    "{} is of class {label}: the classes are 0 to {}",
                    path.display(),
                    classes.saturating_sub(1)
                );
                Err(format(&self.path, reason))
            }
        }
    }
}
