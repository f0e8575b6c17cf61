//! Images in files, decoded when they are asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn_dataset::Dataset;
use rayon::prelude::*;

use super::folder::Entry;
use super::format;
use crate::decode::read_image;
use crate::left_out::{LeftOutKind, Tally};
use crate::{DataError, Sample, Watch};

/// `entries` without those whose files are missing or empty, which `tally` counts.
///
/// # Errors
/// The first of those, if the config does not leave them out.
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

/// What can be told of a file without reading it.
fn wrong_with(path: &Path) -> Option<(LeftOutKind, DataError)> {
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => {
            Some((LeftOutKind::Unreadable, format(path, "it is no file".into())))
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
    /// `entries` with ids that depend on the paths below `root` alone: neither the order of a list nor
    /// where the set lies changes them.
    pub fn new(entries: Vec<Entry>, root: &Path, exif: bool) -> Result<Self, DataError> {
        let mut ids = Vec::with_capacity(entries.len());
        let mut seen = HashMap::with_capacity(entries.len());
        for entry in &entries {
            let name = entry.path.strip_prefix(root).unwrap_or(&entry.path).to_string_lossy();
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

    /// Decodes every file on all cores and returns the positions of the corrupt ones with what is
    /// wrong.
    pub fn corrupt(&self, watch: &Watch<'_>) -> Vec<(usize, DataError)> {
        let done = AtomicUsize::new(0);
        let check = |i: usize| {
            let result = self.get(i);
            watch("checking images", done.fetch_add(1, Ordering::Relaxed) + 1, self.len());
            result.err().map(|error| (i, error))
        };
        (0..self.len()).into_par_iter().filter_map(check).collect()
    }

    /// All but those at the positions of `bad`, ascending, which `tally` counts.
    ///
    /// # Errors
    /// The first of those, if the config does not leave them out.
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

    /// Hash of the paths, sizes and times of the files: it changes when a file does.
    pub fn fingerprint(&self) -> Result<blake3::Hash, DataError> {
        let stamp = |entry: &Entry| {
            let wrong = |source| DataError::Read { path: entry.path.clone(), source };
            let meta = std::fs::metadata(&entry.path).map_err(wrong)?;
            let time =
                meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            Ok((meta.len(), time.unwrap_or_default().as_nanos()))
        };
        let stamps: Result<Vec<(u64, u128)>, DataError> =
            self.entries.par_iter().map(stamp).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[u8::from(self.exif)]);
        for (entry, (len, time)) in self.entries.iter().zip(stamps?) {
            hasher.update(entry.path.to_string_lossy().as_bytes());
            hasher.update(&entry.label.to_le_bytes());
            hasher.update(&len.to_le_bytes());
            hasher.update(&time.to_le_bytes());
        }
        Ok(hasher.finalize())
    }
}

impl Dataset<Sample, DataError> for Files {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let entry = &self.entries[index];
        Ok(Sample::new(self.ids[index], read_image(&entry.path, self.exif)?, entry.label))
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}
