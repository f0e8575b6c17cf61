//! The temporary folder of an export.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::settings::SETTINGS;
use crate::DataError;
use crate::lock::LOCK;

/// The names in a folder except for its lock; empty if the folder does not exist.
pub(super) fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| name != LOCK).collect()
}

/// The location of `out` with links resolved, so that a link to an empty folder stays a link and two names of one
/// folder are equal. Creates the folders above it.
pub(super) fn resolved(out: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(out)?;
    if let Ok(there) = fs::canonicalize(&absolute) {
        return Ok(there);
    }
    let (Some(above), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not name a folder"));
    };
    fs::create_dir_all(above)?;
    Ok(fs::canonicalize(above)?.join(name))
}

pub(super) fn must_be_empty(out: &Path) -> Result<(), DataError> {
    let reason = match fs::read_dir(out).map(Iterator::count) {
        Ok(1..) => "the folder is not empty",
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => "it is a file",
        _ => return Ok(()),
    };
    let reason = format!("{reason}: choose another folder; nothing is overwritten");
    Err(DataError::Format { path: out.into(), reason })
}

/// Removes the leftovers of a killed export in `partial`, which is locked.
pub(super) fn clear(partial: &Path) -> Result<(), DataError> {
    let names = names(partial);
    if !names.is_empty() && !partial.join(SETTINGS).exists() {
        let reason = format!(
            "the folder is in the way: an export is written here first, but this is no leftover of one (it has no \
             {SETTINGS}): move it away"
        );
        return Err(DataError::Format { path: partial.into(), reason });
    }
    // The settings go last, so that the rest is still recognised if this is killed too.
    let (settings, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.as_os_str() == SETTINGS);
    for path in others.into_iter().chain(settings).map(|name| partial.join(name)) {
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.map_err(|source| DataError::Write { path, source })?;
    }
    Ok(())
}

pub(super) fn make(folder: &Path) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(|source| DataError::Write { path: folder.into(), source })
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    path.parent().map_or(Ok(()), make)?;
    fs::write(path, bytes).map_err(|source| DataError::Write { path: path.into(), source })
}

/// Writes a file that does not exist yet.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(|source| match source.kind() {
        // Names are unique, but a file system that ignores case treats two of them as one.
        io::ErrorKind::AlreadyExists => DataError::Format {
            path: path.into(),
            reason: "two images would be written here: their names differ only in case, which this file system ignores"
                .into(),
        },
        _ => DataError::Write { path: path.into(), source },
    })
}
