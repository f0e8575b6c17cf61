//! The images of a scan: from a folder, a file list, an export or a config.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use ssl_backdoor_data::{
    DataConfig, ImageFiles, InMemory, Poisoned, SampleSet, Split, Splits, resized_set,
};
use ssl_backdoor_model::Preprocessing;
use ssl_backdoor_probe::evaluation_filter;
use ssl_backdoor_scan::ScanConfig;
use ssl_backdoor_trigger::Ledger;

use crate::config::{
    AttackConfig, ConfigError, Document, Source, expand_scan, expanded, keep_only,
};
use crate::device;
use crate::run::{Choice, progress};

/// File name of the ledger beside poisoned images.
const LEDGER: &str = "poison.csv";
/// File name of the settings of an export.
const EXPORT: &str = "export.toml";
/// Prepared images are held in memory if they take at most this many bytes.
const IN_MEMORY: usize = 1 << 29;
/// How many folders above a list to search for its ledger: the lists of an export are in `data/ID/train`.
const ABOVE: usize = 4;
/// Largest default side of the views.
const LARGEST_VIEW: u32 = 64;

/// Images to be scanned.
pub(super) struct ScanImages {
    /// Their name.
    pub name: String,
    /// The images as they are stored.
    pub split: Split,
    /// The origin of each image, in order.
    pub sources: Vec<String>,
    /// Ids of the poisoned images, if a ledger or a config determines them.
    pub poisoned: Option<HashSet<u64>>,
    /// Side of the views, if a config gives one.
    pub size: Option<u32>,
    /// Seed of the config, if there is one.
    pub seed: Option<u64>,
}

/// The tables of a config that are used without its attack.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Images {
    #[serde(default)]
    name: String,
    #[serde(default)]
    seed: u64,
    data: DataConfig,
}

/// The table of a config that says how it is scanned.
#[derive(Deserialize)]
struct Scans {
    #[serde(default)]
    scan: ScanConfig,
}

/// The `[scan]` table of the config `path` and where it was written; the defaults if it is not a config or has no such
/// table.
///
/// # Errors
/// [`ConfigError`] for a wrong config, or settings of the encoder scans out of range.
pub(super) fn scans_of(path: &Path, sets: &[String]) -> Result<(ScanConfig, Source), ConfigError> {
    if path.extension().is_none_or(|extension| extension != "toml") {
        return Ok(Default::default());
    }
    let document = Document::open(path, sets)?;
    let Scans { mut scan } = document.read()?;
    expand_scan(&mut scan);
    scan.encoder().check().map_err(|e| document.wrong(e.within("scan")))?;
    Ok((scan, document.into()))
}

/// Which images of a config are scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The training images, with the poison of the config.
    Training,
    /// The training images, without poison.
    Unpoisoned,
    /// The clean evaluation images.
    Evaluation,
}

impl ScanImages {
    /// The images of `path`: a folder, an export, a file list, or the `part` of a config (`.toml`).
    ///
    /// # Errors
    /// [`ConfigError`] for a wrong config, or overrides without a config; another error if the images cannot be read.
    pub fn read(path: &Path, sets: &[String], part: Part) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension == "toml") {
            return Self::of_config(path, sets, part);
        }
        if !sets.is_empty() {
            let shown = path.display();
            let message = format!(
                "--set {}: {shown} is not a config, so it has no keys to override",
                sets[0]
            );
            return Err(ConfigError(message).into());
        }
        if part == Part::Unpoisoned {
            let shown = path.display();
            let message = format!(
                "--without-poison: {shown} is not a config, so it has no poison to leave out"
            );
            return Err(ConfigError(message).into());
        }
        let exported = path.join(EXPORT).is_file();
        let listed = if exported { training_list(path)? } else { path.to_owned() };
        let files = ImageFiles::read(&listed, &progress::watch())?;
        progress::say_left_out(&files.left_out, &files.skipped);
        let paths = files.split.files.clone().unwrap_or_default();
        let poisoned = truth(path, &files.split, &paths)?;
        let sources = paths.iter().map(|path| path.display().to_string()).collect();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = if name.is_empty() { "images".into() } else { name };
        Ok(Self { name, split: files.split, sources, poisoned, size: None, seed: None })
    }

    fn of_config(path: &Path, sets: &[String], part: Part) -> Result<Self> {
        let mut document = Document::open(path, sets)?;
        let attacked = document.at(&["poison"]).is_some() && part == Part::Training;
        if attacked {
            let AttackConfig { name, seed, data, poison, source } = AttackConfig::read(path, sets)?;
            let splits = load(&data)?;
            let device = device::first()?;
            let choice = Choice { splits: &splits, seed, device: &device, source: &source };
            let poison = choice.of(&poison, None)?;
            let attack = splits.attack(&poison, seed).map_err(|e| source.wrong(e))?;
            let poisoned = Some(attack.plan.ids().collect());
            let set: SampleSet = Arc::new(Poisoned::new(splits.clone(), attack));
            let split = Split { set, ..splits.train.clone() };
            return Ok(Self::of_splits((name, data.size(), seed), &splits, split, poisoned));
        }
        keep_only(&mut document, &["name", "seed", "data"]);
        let Images { name, seed, mut data } = document.read()?;
        data.paths_mut().into_iter().for_each(|path| *path = expanded(&*path));
        data.check().map_err(|e| document.wrong(e))?;
        let splits = load(&data)?;
        let split = match part {
            Part::Training | Part::Unpoisoned => splits.train.clone(),
            Part::Evaluation => splits.eval.clone(),
        };
        let none = (part == Part::Unpoisoned).then(HashSet::new);
        Ok(Self::of_splits((name, data.size(), seed), &splits, split, none))
    }

    fn of_splits(
        (name, size, seed): (String, u32, u64),
        splits: &Splits,
        split: Split,
        poisoned: Option<HashSet<u64>>,
    ) -> Self {
        let name = if name.is_empty() { "images".into() } else { name };
        let sources = match &split.files {
            Some(files) => files.iter().map(|path| path.display().to_string()).collect(),
            None => split.labels.iter().map(|(id, _)| format!("{}#{id}", splits.name)).collect(),
        };
        Self { name, split, sources, poisoned, size: Some(size), seed: Some(seed) }
    }

    /// Ids by position.
    pub fn ids(&self) -> Vec<u64> {
        self.split.labels.iter().map(|(id, _)| *id).collect()
    }

    /// Default side of the views: the config's, or the shorter side of the first image, at most 64 pixels.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn view(&self) -> Result<u32> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        let image = self.split.set.get(0)?.image;
        Ok(image.width().min(image.height()).min(LARGEST_VIEW))
    }

    /// The images prepared by `preprocessing`, in memory if they are few.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn prepared(&self, preprocessing: &Preprocessing) -> Result<SampleSet> {
        let filter = evaluation_filter(preprocessing);
        let size = preprocessing.size;
        let set = resized_set(self.split.set.clone(), size, filter, true);
        let bytes = set.len().saturating_mul(3 * size as usize * size as usize);
        if bytes > IN_MEMORY {
            return Ok(set);
        }
        Ok(Arc::new(InMemory::read(&set, &progress::watch())?))
    }
}

fn load(data: &DataConfig) -> Result<Splits> {
    let splits = data.load(&progress::watch())?;
    progress::say_left_out(&splits.left_out, &splits.skipped);
    Ok(splits)
}

/// The list of the training images of the export in `folder`.
fn training_list(folder: &Path) -> Result<PathBuf> {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
    };
    let lists: Vec<PathBuf> = inside(&folder.join("data"))
        .iter()
        .flat_map(|id| inside(&id.join("train")))
        .filter(|path| path.to_string_lossy().ends_with("_filelist.txt"))
        .collect();
    match &lists[..] {
        [list] => Ok(list.clone()),
        found => bail!(
            "{} is an export with {} training lists in data/ID/train: pass the list to scan",
            folder.display(),
            found.len()
        ),
    }
}

/// The poisoned images according to the ledger beside `path`, if there is one and it names any of the images.
fn truth(path: &Path, split: &Split, paths: &[PathBuf]) -> Result<Option<HashSet<u64>>> {
    let ledger = path.ancestors().take(ABOVE + 1).map(|folder| folder.join(LEDGER));
    let Some(ledger) = ledger.into_iter().find(|path| path.is_file()) else { return Ok(None) };
    let shown = ledger.display();
    let text = std::fs::read_to_string(&ledger).with_context(|| format!("cannot read {shown}"))?;
    let rows = Ledger::parse(&text, &ledger)?.rows;
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let ids: HashMap<PathBuf, u64> =
        paths.iter().map(|path| whole(path)).zip(split.labels.iter().map(|(id, _)| *id)).collect();
    let folder = ledger.parent().unwrap_or(Path::new(""));
    let found: HashSet<u64> =
        rows.iter().filter_map(|row| ids.get(&whole(&folder.join(&row.file))).copied()).collect();
    if found.is_empty() {
        let first =
            rows.first().map(|row| format!(" (its first is {})", folder.join(&row.file).display()));
        let first = first.unwrap_or_default();
        eprintln!(
            "note: {shown} lists none of these images{first}, so the scan is not compared with it"
        );
        return Ok(None);
    }
    Ok(Some(found))
}
