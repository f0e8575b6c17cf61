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

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ssl_backdoor_trigger::{Attack, Ledger, LedgerHead, LedgerRow, PoisonConfig, Rates};

use crate::augment::resize_center_crop;
use crate::layout::has_extension;
use crate::{DataConfig, DataError, Eval, LeftOut, Split, Splits, Watch};

/// What is exported; `export.toml` in the export's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Name of the experiment in the paths; absent = from the trigger and the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Seed of the choice and of the places.
    pub seed: u64,
    /// PNG for every file. Otherwise a file keeps its name, and one named .jpg or .jpeg is written as
    /// JPEG of quality 75 with 4:2:0 chroma, as the reference does.
    #[serde(default)]
    pub lossless: bool,
    /// Whether the lines of poisoned training images end with the patch: x, y, width, height.
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

/// Name of the file with the settings.
pub(crate) const SETTINGS: &str = "export.toml";
/// Ledger of the training images.
pub(crate) const TRAIN_LEDGER: &str = "poison.csv";
/// Ledger of the evaluation images.
pub(crate) const VAL_LEDGER: &str = "val_poisoned.csv";

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
    /// Positions by image id, of the training and of the evaluation images.
    pub positions: [HashMap<u64, usize>; 2],
}

impl Job {
    pub fn new(export: Export, watch: &Watch<'_>) -> Result<Self, DataError> {
        export.poison.check()?;
        // Every evaluation image is patched, whatever part a run would score.
        let splits = export.data.load_part(Eval::All, watch)?;
        let attack = splits.attack(&export.poison, export.seed)?;
        let positions = [&splits.train, &splits.eval]
            .map(|split| split.labels.iter().enumerate().map(|(i, (id, _))| (*id, i)).collect());
        Ok(Self { export, splits, attack, positions })
    }

    pub fn split(&self, val: bool) -> &Split {
        if val { &self.splits.eval } else { &self.splits.train }
    }

    /// Image `index` as it is before it is poisoned: evaluation images resized and cropped.
    pub fn image(&self, val: bool, index: usize) -> Result<RgbImage, DataError> {
        let image = self.split(val).set.get(index)?.image;
        Ok(if val { resize_center_crop(image, self.export.data.size()) } else { image })
    }

    fn ledger(&self, val: bool, folder: &Path, watch: &Watch<'_>) -> Result<Ledger, DataError> {
        let split = self.split(val);
        let poison = if val { &self.attack.val } else { &self.attack.train };
        let chosen: Vec<usize> = (0..split.labels.len())
            .filter(|&i| val || self.attack.plan.contains(split.labels[i].0))
            .collect();
        let (mut files, mut made) = (HashSet::new(), HashSet::new());
        for &index in &chosen {
            let file = self.file(val, index);
            if !files.insert(file.clone()) {
                let reason =
                    "two images of one class have the same name: both would go here".into();
                return Err(DataError::Format { path: folder.join(file), reason });
            }
            if let Some(inside) = folder.join(file).parent()
                && made.insert(inside.to_owned())
            {
                make(inside)?;
            }
        }
        let done = AtomicUsize::new(0);
        let work = |&index: &usize| -> Result<LedgerRow, DataError> {
            let id = split.labels[index].0;
            let mut image = self.image(val, index)?;
            let source = crate::splits::source(&self.splits.name, split, index);
            let mut row = LedgerRow::poison(poison, id, source, &mut image);
            row.file = self.file(val, index);
            let path = folder.join(&row.file);
            let bytes = encode(&image, &row.file)
                .map_err(|reason| DataError::Format { path: path.clone(), reason })?;
            row.file_hash = blake3::hash(&bytes).to_hex().to_string();
            fs::write(&path, &bytes)
                .map_err(|source| DataError::Write { path: path.clone(), source })?;
            watch(Self::part(val), done.fetch_add(1, Ordering::Relaxed) + 1, chosen.len());
            Ok(row)
        };
        let rows: Result<Vec<LedgerRow>, DataError> = chosen.par_iter().map(work).collect();
        let mut rows = rows?;
        rows.sort_by_key(|row| row.image_id);
        let all = Rates { rate: None, dataset_rate: 1.0, count: rows.len() };
        let rates = if val { all } else { self.attack.plan.rates() };
        let head = LedgerHead::new(rates, self.attack.target, &self.export.poison.trigger, poison);
        Ok(Ledger { head, rows })
    }
}

impl Export {
    /// Writes the export to `out`, which must not exist or be empty. It is made beside it and renamed:
    /// whole or not at all.
    ///
    /// # Errors
    /// A folder that is not empty, an attack that is not to be had, an image that cannot be read, a
    /// file that cannot be written.
    pub fn write(mut self, out: &Path, watch: &Watch<'_>) -> Result<Exported, DataError> {
        let wrong = |source| DataError::Write { path: out.into(), source };
        if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
            let reason = "the folder is not empty: choose another, nothing is overwritten".into();
            return Err(DataError::Format { path: out.into(), reason });
        }
        let absolute = std::path::absolute(out).map_err(wrong)?;
        self.root.get_or_insert_with(|| absolute.clone());
        let job = Job::new(self, watch)?;
        let mut name = absolute.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = absolute.with_file_name(name);
        if partial.join(SETTINGS).exists() {
            fs::remove_dir_all(&partial).map_err(wrong)?;
        }
        let settings = toml::to_string_pretty(&job.export)
            .map_err(|e| DataError::Format { path: out.join(SETTINGS), reason: e.to_string() })?;
        // First, so that what an interrupted export left behind is known as such.
        write(&partial.join(SETTINGS), settings.as_bytes())?;
        let mut blanks = false;
        let mut ledgers = Vec::new();
        for val in [false, true] {
            let ledger = job.ledger(val, &partial, watch)?;
            let (text, blank) = job.list(val, &ledger.rows)?;
            blanks |= blank;
            write(&partial.join(job.list_file(val)), text.as_bytes())?;
            let path = partial.join(if val { VAL_LEDGER } else { TRAIN_LEDGER });
            write(&path, ledger.to_csv(&path)?.as_bytes())?;
            ledgers.push(ledger);
        }
        job.clean_copies().par_iter().try_for_each(|(file, index)| {
            let path = partial.join(file);
            let bytes = encode(&job.image(false, *index)?, file)
                .map_err(|reason| DataError::Format { path: path.clone(), reason })?;
            write(&path, &bytes)
        })?;
        // An empty folder gives way.
        let _ = fs::remove_dir(&absolute);
        fs::rename(&partial, &absolute).map_err(wrong)?;
        Ok(Exported {
            rates: job.attack.plan.rates(),
            patched: ledgers.last().map_or(0, |ledger| ledger.rows.len()),
            train_list: job.list_file(false),
            val_list: job.list_file(true),
            blanks,
            left_out: job.splits.left_out,
            skipped: job.splits.skipped,
        })
    }
}

/// An image as the bytes of a file of this name.
pub(crate) fn encode(image: &RgbImage, name: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if !has_extension(name, &["jpg", "jpeg"]) {
        let mut to = std::io::Cursor::new(&mut bytes);
        image.write_to(&mut to, image::ImageFormat::Png).map_err(|e| e.to_string())?;
        return Ok(bytes);
    }
    let side = |length: u32| {
        u16::try_from(length).map_err(|_| format!("{length} pixels are too many for a JPEG"))
    };
    let (width, height) = (side(image.width())?, side(image.height())?);
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder
        .encode(image.as_raw(), width, height, jpeg_encoder::ColorType::Rgb)
        .map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// PIL's default, and so the reference's.
const QUALITY: u8 = 75;

fn make(folder: &Path) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(|source| DataError::Write { path: folder.into(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    path.parent().map_or(Ok(()), make)?;
    fs::write(path, bytes).map_err(|source| DataError::Write { path: path.into(), source })
}
