//! A poisoned data set on disk, in the reference's layout (protocol 1.5): poisoned training images that
//! replace the originals in the list, every evaluation image patched, file lists, and the ledgers from
//! which [`verify`](crate::verify) rebuilds every byte.
//!
//! ```text
//! DIR/export.toml            what was exported, under which settings
//! DIR/poison.csv             the ledger of the training images; val_poisoned.csv that of the others
//! DIR/train/STEM/CLASS/*     the poisoned training images
//! DIR/val_poisoned/STEM/CLASS/*
//! DIR/clean/CLASS/*          the clean training images of a set that does not lie in image files
//! DIR/data/ID/train/STEM_filelist.txt and DIR/data/ID/val_poisoned/STEM_filelist.txt
//! ```
//!
//! Every path in the settings, ledgers and lists is absolute, so that they mean the same from every folder. An image
//! without a label has class -1 in the lists.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ssl_backdoor_trigger::{
    Attack, Ledger, LedgerHead, LedgerRow, Phase, PoisonConfig, Rates, Setup,
};

use crate::absolute::make_absolute;
use crate::jpeg::{Format, encode};
use crate::layout::Names;
use crate::lock::{FolderLock, Held, LOCK};
use crate::wrappers::keeps_size;
use crate::{DataConfig, DataError, Eval, LeftOut, Split, Splits, Watch};

/// What is exported; `export.toml` in the export's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// How the files are written, [`FORMAT`] now; absent = 1.
    #[serde(default = "first_format")]
    pub format: u32,
    /// The version that wrote it; absent = one before 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Name of the experiment in the paths; absent = from the trigger and the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Seed of the choice and of the places.
    pub seed: u64,
    /// PNG for every file. Otherwise a file named .jpg, .jpeg, .jpe or .jfif keeps its name and is written as JPEG of
    /// quality 75 with 4:2:0 chroma, as the reference does; all others are PNG. An attack that JPEG erases is always
    /// exported without loss.
    #[serde(default)]
    pub lossless: bool,
    /// Whether the lines of poisoned training images end with the patch: x, y, width, height. Lines of images with a
    /// trigger that is not pasted end with nothing.
    #[serde(default)]
    pub patch_params: bool,
    /// Folder that the paths in the lists start with; absent = where it is exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// The images.
    pub data: DataConfig,
    /// The attack.
    pub poison: PoisonConfig,
}

/// How exports are written now. 1 took chroma from the nearest pixel and gave images without a label class 4294967295;
/// 2 averages chroma as libjpeg does and writes -1.
pub const FORMAT: u32 = 2;

fn first_format() -> u32 {
    1
}

/// Name of the file with the settings.
pub(crate) const SETTINGS: &str = "export.toml";
/// Name of the ledger of the images of `phase`.
pub(crate) fn ledger_file(phase: Phase) -> &'static str {
    match phase {
        Phase::Training => "poison.csv",
        Phase::Evaluation => "val_poisoned.csv",
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Poisoned training images, under all three denominators.
    pub rates: Rates,
    /// Patched evaluation images.
    pub patched: usize,
    /// The training list, relative to the folder.
    pub train_list: PathBuf,
    /// The list of the patched evaluation images, relative to the folder.
    pub val_list: PathBuf,
    /// A path holds a blank: the reference cannot read the lists.
    pub blanks: bool,
    /// JPEG would erase the trigger: files that keep the names of JPEGs would have been written so, and are PNG.
    pub saved_from_jpeg: bool,
    /// What was left out of the data set, by kind.
    pub left_out: Vec<LeftOut>,
    /// Files among them that should have been images, with what is wrong.
    pub skipped: Vec<String>,
}

/// An export with everything read that it needs.
pub(crate) struct Job {
    pub export: Export,
    pub splits: Splits,
    pub attack: Attack,
    pub setup: Setup,
    pub saved_from_jpeg: bool,
    /// Positions by image id, of the training and of the evaluation images.
    pub positions: [HashMap<u64, usize>; 2],
    /// What the files of both are called.
    pub names: [Names; 2],
}

impl Job {
    pub fn new(mut export: Export, watch: &Watch<'_>) -> Result<Self, DataError> {
        export.data.check_poison(&export.poison)?;
        // Images are exported from the originals: a cache of resized ones would be built for nothing.
        leave_cache_out(&mut export.data);
        // Every evaluation image is patched, whatever part a run would score.
        let splits = export.data.load_part(Eval::All, watch)?;
        let attack = splits.attack(&export.poison, export.seed)?;
        let setup = splits.setup(&export.poison)?;
        let lossless = export.lossless || !attack.survives_jpeg();
        let saved_from_jpeg = lossless && !export.lossless && splits.exports_jpegs();
        export.lossless = lossless;
        let positions = [&splits.train, &splits.eval]
            .map(|split| split.labels.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect());
        let names = [&splits.train, &splits.eval]
            .map(|split| Names::new(split, &splits.classes, export.lossless));
        Ok(Self { export, splits, attack, setup, saved_from_jpeg, positions, names })
    }

    /// How its files are written.
    pub fn format(&self) -> Format {
        if self.export.format == 1 { Format::First } else { Format::Present }
    }

    pub fn split(&self, phase: Phase) -> &Split {
        match phase {
            Phase::Training => &self.splits.train,
            Phase::Evaluation => &self.splits.eval,
        }
    }

    /// Image `index` as it is before it is poisoned: evaluation images prepared for the network.
    pub fn image(&self, phase: Phase, index: usize) -> Result<RgbImage, DataError> {
        let image = self.split(phase).set.get(index)?.image;
        Ok(match phase {
            Phase::Training => image,
            Phase::Evaluation => self.splits.preparation.image(image),
        })
    }

    /// Poisons image `index`; its row lacks the exported file.
    fn poisoned(&self, phase: Phase, index: usize) -> Result<(RgbImage, LedgerRow), DataError> {
        let split = self.split(phase);
        let id = split.labels[index].0;
        let mut image = self.image(phase, index)?;
        let before = image.dimensions();
        let source = crate::splits::source(&self.splits.name, split, index);
        let row = LedgerRow::poison(self.attack.poison(phase), id, source, &mut image)?;
        if phase == Phase::Evaluation {
            keeps_size(id, &image, before)?;
        }
        Ok((image, row))
    }

    fn ledger(&self, phase: Phase, folder: &Path, watch: &Watch<'_>) -> Result<Ledger, DataError> {
        let split = self.split(phase);
        let all = phase == Phase::Evaluation;
        let chosen: Vec<usize> = (0..split.labels.len())
            .filter(|&i| all || self.attack.plan.contains(split.labels[i].0))
            .collect();
        let mut made = HashSet::new();
        for &index in &chosen {
            if let Some(inside) = folder.join(self.file(phase, index)).parent()
                && made.insert(inside.to_owned())
            {
                make(inside)?;
            }
        }
        let done = AtomicUsize::new(0);
        let work = |&index: &usize| -> Result<LedgerRow, DataError> {
            let (image, mut row) = self.poisoned(phase, index)?;
            row.file = self.file(phase, index);
            let path = folder.join(&row.file);
            let bytes = encode(&image, &row.file, self.format())
                .map_err(|reason| DataError::Format { path: path.clone(), reason })?;
            row.file_hash = blake3::hash(&bytes).to_hex().to_string();
            write_new(&path, &bytes)?;
            watch(Self::part(phase), done.fetch_add(1, Ordering::Relaxed) + 1, chosen.len());
            Ok(row)
        };
        let rows: Result<Vec<LedgerRow>, DataError> = chosen.par_iter().map(work).collect();
        let mut rows = rows?;
        rows.sort_by_key(|row| row.image_id);
        let rates = match phase {
            Phase::Training => self.attack.plan.rates(),
            Phase::Evaluation => Rates { rate: None, dataset_rate: 1.0, count: rows.len() },
        };
        let (recipe, poison) = (self.export.poison.recipe(phase), self.attack.poison(phase));
        let head = LedgerHead {
            recompress: self.attack.recompress,
            left_out: self.splits.skipped.len(),
            ..LedgerHead::new(rates, self.attack.target, recipe, poison)
        };
        Ok(Ledger { head, rows })
    }
}

impl Export {
    /// An export in the present format, with what is optional left out.
    pub fn new(seed: u64, data: DataConfig, poison: PoisonConfig) -> Self {
        Self {
            format: FORMAT,
            version: Some(env!("CARGO_PKG_VERSION").into()),
            id: None,
            seed,
            lossless: false,
            patch_params: false,
            root: None,
            data,
            poison,
        }
    }

    /// Writes the export to `out`, which must not exist or be empty. It is made in `out.partial` beside it, which other
    /// processes keep out of, and renamed: whole or not at all. What a killed export left there is replaced.
    ///
    /// # Errors
    /// A folder that is not empty or that another process exports to, an attack that is not to be had, an image that
    /// cannot be read, a file that cannot be written. Nothing is left then.
    pub fn write(mut self, out: &Path, watch: &Watch<'_>) -> Result<Exported, DataError> {
        let wrong = |source| DataError::Write { path: out.into(), source };
        (self.format, self.version) = (FORMAT, Some(env!("CARGO_PKG_VERSION").into()));
        make_absolute(&mut self.data, &mut self.poison).map_err(wrong)?;
        let target = resolved(out).map_err(wrong)?;
        must_be_empty(&target)?;
        let absolute = std::path::absolute(out).map_err(wrong)?;
        let plain = absolute.components().all(|part| part != Component::ParentDir);
        self.root.get_or_insert(if plain { absolute } else { target.clone() });
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = target.with_file_name(name);
        let _lock = FolderLock::take(&partial).map_err(|held| match held {
            Held::Failed(source) => DataError::Write { path: partial.clone(), source },
            Held::By(pid) => {
                let reason = format!(
                    "another process (pid {pid}) is exporting to this folder: wait for it, or choose another"
                );
                DataError::Format { path: out.into(), reason }
            }
        })?;
        let exported = clear(&partial).and_then(|()| {
            // The export of the process before may have ended in between.
            must_be_empty(&target)?;
            let exported = self.write_in(&partial, watch)?;
            // An empty folder gives way.
            let _ = fs::remove_dir(&target);
            fs::rename(&partial, &target).map_err(wrong)?;
            Ok(exported)
        });
        // What cannot be removed does no harm: the lock is no file of the export, and the next one clears the folder.
        let _ = if exported.is_ok() {
            fs::remove_file(target.join(LOCK))
        } else if partial.join(SETTINGS).exists() || names(&partial).is_empty() {
            fs::remove_dir_all(&partial)
        } else {
            fs::remove_file(partial.join(LOCK))
        };
        exported
    }

    fn write_in(self, partial: &Path, watch: &Watch<'_>) -> Result<Exported, DataError> {
        let job = Job::new(self, watch)?;
        let settings = toml::to_string_pretty(&job.export).map_err(|e| DataError::Format {
            path: partial.join(SETTINGS),
            reason: e.to_string(),
        })?;
        // First, so that what an interrupted export left behind is known as such.
        write(&partial.join(SETTINGS), settings.as_bytes())?;
        let mut blanks = false;
        let mut ledgers = Vec::new();
        for phase in Phase::ALL {
            let ledger = job.ledger(phase, partial, watch)?;
            let (text, blank) = job.list(phase, &ledger.rows)?;
            blanks |= blank;
            write(&partial.join(job.list_file(phase)), text.as_bytes())?;
            let path = partial.join(ledger_file(phase));
            write(&path, ledger.to_csv(&path)?.as_bytes())?;
            ledgers.push(ledger);
        }
        job.clean_copies().par_iter().try_for_each(|(file, index)| {
            let path = partial.join(file);
            let bytes = encode(&job.image(Phase::Training, *index)?, file, job.format())
                .map_err(|reason| DataError::Format { path: path.clone(), reason })?;
            path.parent().map_or(Ok(()), make)?;
            write_new(&path, &bytes)
        })?;
        Ok(Exported {
            rates: job.attack.plan.rates(),
            patched: ledgers.last().map_or(0, |ledger| ledger.rows.len()),
            train_list: job.list_file(Phase::Training),
            val_list: job.list_file(Phase::Evaluation),
            blanks,
            saved_from_jpeg: job.saved_from_jpeg,
            left_out: job.splits.left_out,
            skipped: job.splits.skipped,
        })
    }
}

fn leave_cache_out(data: &mut DataConfig) {
    match data {
        DataConfig::Folder(set) | DataConfig::Imagenet100(set) => set.cache = None,
        DataConfig::FileList(set) => set.cache = None,
        _ => {}
    }
}

/// The names in a folder but for its lock; none if there is no folder.
fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| name != LOCK).collect()
}

/// Where `out` lies, links resolved: a link to an empty folder stays one, and two names of one folder are one. The
/// folders above it are made.
fn resolved(out: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(out)?;
    if let Ok(there) = fs::canonicalize(&absolute) {
        return Ok(there);
    }
    let (Some(above), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no folder"));
    };
    fs::create_dir_all(above)?;
    Ok(fs::canonicalize(above)?.join(name))
}

fn must_be_empty(out: &Path) -> Result<(), DataError> {
    let reason = match fs::read_dir(out).map(Iterator::count) {
        Ok(1..) => "the folder is not empty",
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => "it is a file",
        _ => return Ok(()),
    };
    let reason = format!("{reason}: choose another, nothing is overwritten");
    Err(DataError::Format { path: out.into(), reason })
}

/// Removes what a killed export left in `partial`, which is locked.
fn clear(partial: &Path) -> Result<(), DataError> {
    let names = names(partial);
    if !names.is_empty() && !partial.join(SETTINGS).exists() {
        let reason = format!(
            "the folder is in the way: an export is written here first, but this is no leftover of one (it has no \
             {SETTINGS}): move it away"
        );
        return Err(DataError::Format { path: partial.into(), reason });
    }
    // The settings last: what is left of a clearing that is killed in turn is still known.
    let (settings, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.as_os_str() == SETTINGS);
    for path in others.into_iter().chain(settings).map(|name| partial.join(name)) {
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.map_err(|source| DataError::Write { path, source })?;
    }
    Ok(())
}

fn make(folder: &Path) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(|source| DataError::Write { path: folder.into(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    path.parent().map_or(Ok(()), make)?;
    fs::write(path, bytes).map_err(|source| DataError::Write { path: path.into(), source })
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(|source| match source.kind() {
        // Names are unique: a file system that ignores case takes two of them for one.
        io::ErrorKind::AlreadyExists => DataError::Format {
            path: path.into(),
            reason: "two images would be written here: their names differ in case alone, which this file system ignores"
                .into(),
        },
        _ => DataError::Write { path: path.into(), source },
    })
}
