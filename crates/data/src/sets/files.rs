//! Images in files, decoded on access.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn_dataset::Dataset;
use rayon::prelude::*;

use super::folder::Entry;
use super::input::format;
use crate::absolute::absolute;
use crate::left_out::{LeftOutKind, Tally};
use crate::read_image;
use crate::{DataError, Sample, Split, Watch};

/// Reads the samples at `positions` of `set` on all cores. Returns the positions of those that cannot be read, in the
/// order of `positions`, with the errors. `what` is the name for `watch`.
pub fn unreadable(
    set: &dyn Dataset<Sample, DataError>,
    positions: &[usize],
    what: &str,
    watch: &Watch<'_>,
) -> Vec<(usize, DataError)> {
    let done = AtomicUsize::new(0);
    let check = |&index: &usize| {
        let result = set.get(index);
        watch(what, done.fetch_add(1, Ordering::Relaxed) + 1, positions.len());
        result.err().map(|error| (index, error))
    };
    positions.par_iter().filter_map(check).collect()
}

/// `entries` without those whose files are missing or empty, which `tally` counts.
///
/// # Errors
/// The first of those, unless the config leaves them out.
pub(crate) fn present(entries: Vec<Entry>, tally: &mut Tally) -> Result<Vec<Entry>, DataError> {
    let found: Vec<Option<(LeftOutKind, DataError)>> =
        entries.par_iter().map(|entry| wrong_with(&entry.path)).collect();
    let mut kept = Vec::with_capacity(entries.len());
    for (entry, wrong) in entries.into_iter().zip(found) {
        match wrong {
            None => kept.push(entry),
            Some((kind, error)) => tally.add_bad(kind, &entry.path, error)?,
        }
    }
    Ok(kept)
}

/// The problem of a file, as far as it is known without reading it.
fn wrong_with(path: &Path) -> Option<(LeftOutKind, DataError)> {
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => {
            Some((LeftOutKind::Unreadable, format(path, "it is not a file".into())))
        }
        Ok(meta) if meta.len() == 0 => {
            Some((LeftOutKind::Empty, format(path, "the file is empty".into())))
        }
        Ok(_) => None,
        Err(source) => {
            let missing = source.kind() == std::io::ErrorKind::NotFound;
            let kind = if missing { LeftOutKind::Missing } else { LeftOutKind::Unreadable };
            let error = if missing && path.is_symlink() {
                format(path, "the link leads to a file that does not exist".into())
            } else {
                DataError::Read { path: path.into(), source }
            };
            Some((kind, error))
        }
    }
}

/// A set of image files.
pub(crate) struct Files {
    entries: Vec<Entry>,
    ids: Vec<u64>,
    exif: bool,
}

impl Files {
    /// `entries` with ids that depend only on the paths below `root`: neither the order of a list nor the location of
    /// the set changes them.
    pub fn new(entries: Vec<Entry>, root: &Path, exif: bool) -> Result<Self, DataError> {
        let mut ids = Vec::with_capacity(entries.len());
        let mut seen = HashMap::with_capacity(entries.len());
        for entry in &entries {
            let below = below(root, &entry.path);
            let name = below.as_deref().unwrap_or(&entry.path).to_string_lossy();
            let hash = blake3::hash(name.as_bytes());
            let mut id = [0; 8];
            id.copy_from_slice(&hash.as_bytes()[..8]);
            let id = u64::from_le_bytes(id);
            if seen.insert(id, ()).is_some() {
                return Err(format(&entry.path, "the image is listed twice".into()));
            }
            ids.push(id);
        }
        Ok(Self { entries, ids, exif })
    }

    pub fn labels(&self) -> Vec<(u64, u32)> {
        self.ids.iter().zip(&self.entries).map(|(&id, entry)| (id, entry.label)).collect()
    }

    /// The set with its labels.
    pub fn into_split(self) -> Split {
        let (labels, paths) = (self.labels(), self.paths());
        Split { set: Arc::new(self), labels, files: Some(Arc::new(paths)) }
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.entries.iter().map(|entry| entry.path.clone()).collect()
    }

    /// The files at these positions, in this order.
    pub fn at(&self, positions: &[usize]) -> Self {
        Self {
            entries: positions.iter().map(|&i| self.entries[i].clone()).collect(),
            ids: positions.iter().map(|&i| self.ids[i]).collect(),
            exif: self.exif,
        }
    }

    /// Decodes every file on all cores and returns the positions of the corrupt ones with the errors.
    pub fn corrupt(&self, watch: &Watch<'_>) -> Vec<(usize, DataError)> {
        let all: Vec<usize> = (0..self.len()).collect();
        unreadable(self, &all, "checking images", watch)
    }

    /// All files except those at the positions of `bad`, which are ascending; `tally` counts those.
    ///
    /// # Errors
    /// The first of those, unless the config leaves them out.
    pub fn without(
        self,
        bad: Vec<(usize, DataError)>,
        tally: &mut Tally,
    ) -> Result<Self, DataError> {
        let positions: Vec<usize> = bad.iter().map(|(i, _)| *i).collect();
        for (i, error) in bad {
            let unread = matches!(error, DataError::Read { .. });
            let kind = if unread { LeftOutKind::Unreadable } else { LeftOutKind::Corrupt };
            tally.add_bad(kind, &self.entries[i].path, error)?;
        }
        let whole = |i: &usize| positions.binary_search(i).is_err();
        Ok(self.at(&(0..self.entries.len()).filter(whole).collect::<Vec<_>>()))
    }

    /// Hash of the names below the root, labels, sizes and times of the files, in hexadecimal: it changes when a file
    /// does, and stays when the whole set moves.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn fingerprint(&self) -> Result<String, DataError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[u8::from(self.exif)]);
        for ((entry, id), stamp) in self.entries.iter().zip(&self.ids).zip(self.stamps()?) {
            hasher.update(&id.to_le_bytes());
            hasher.update(&entry.label.to_le_bytes());
            hasher.update(&stamp);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The same over the full paths: two sets with equal names have different ones.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn stamp(&self) -> Result<blake3::Hash, DataError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[u8::from(self.exif)]);
        for (entry, stamp) in self.entries.iter().zip(self.stamps()?) {
            hasher.update(entry.path.to_string_lossy().as_bytes());
            hasher.update(&entry.label.to_le_bytes());
            hasher.update(&stamp);
        }
        Ok(hasher.finalize())
    }

    /// Size and time of each file, as bytes.
    fn stamps(&self) -> Result<Vec<[u8; 24]>, DataError> {
        let stamp = |entry: &Entry| {
            let wrong = |source| DataError::Read { path: entry.path.clone(), source };
            let meta = std::fs::metadata(&entry.path).map_err(wrong)?;
            let time =
                meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&meta.len().to_le_bytes());
            bytes[8..].copy_from_slice(&time.unwrap_or_default().as_nanos().to_le_bytes());
            Ok(bytes)
        };
        self.entries.par_iter().map(stamp).collect()
    }
}

/// `path` without `root`, if it is below it; otherwise both are made absolute and compared again.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    let inside = |path: &Path, root: &Path| path.strip_prefix(root).ok().map(Path::to_owned);
    inside(path, root).or_else(|| inside(&absolute(path).ok()?, &absolute(root).ok()?))
}

impl Dataset<Sample, DataError> for Files {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let entry = DataError::at(&self.entries, index)?;
        let id = *DataError::at(&self.ids, index)?;
        Ok(Sample::new(id, read_image(&entry.path, self.exif)?, entry.label))
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}
