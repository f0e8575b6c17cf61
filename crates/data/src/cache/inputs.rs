//! The inputs of a cache, and the lock of the process that builds it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn_dataset::Dataset;

use crate::Watch;
use crate::sets::files::Files;

/// Hexadecimal digits of the hash in a file name.
const NAME_DIGITS: usize = 16;
/// Time between two attempts to get the builder's lock.
const RETRY: Duration = Duration::from_millis(100);

/// The inputs of a cache.
pub(super) struct Inputs<'a> {
    pub files: &'a Files,
    pub shorter: u32,
    /// Path of the cache file.
    pub path: PathBuf,
    /// Hash of everything that determines its bytes.
    pub hash: [u8; 32],
}

impl<'a> Inputs<'a> {
    pub fn new(folder: &Path, files: &'a Files, stamp: &blake3::Hash, shorter: u32) -> Self {
        let set = paths_hash(&files.paths());
        let mut hasher = blake3::Hasher::new();
        hasher.update(stamp.as_bytes());
        hasher.update(&shorter.to_le_bytes());
        hasher.update(set.as_bytes());
        let name = format!("train-{shorter}-{}.pack", &set.to_hex()[..NAME_DIGITS]);
        Self { files, shorter, path: folder.join(name), hash: *hasher.finalize().as_bytes() }
    }

    /// The file beside the cache that a builder locks.
    pub fn lock_path(&self) -> PathBuf {
        self.path.with_extension("lock")
    }
}

/// Hash of the images' absolute paths, with links in their folders resolved: identifies a set on this machine.
fn paths_hash(paths: &[PathBuf]) -> blake3::Hash {
    let mut folders = HashMap::new();
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = folders.entry(folder).or_insert_with(|| {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
        });
        let name = path.file_name().unwrap_or(OsStr::new(""));
        for part in [folder.as_os_str(), name] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_encoded_bytes());
        }
    }
    hasher.finalize()
}

/// Waits until no other process is building this cache. Dropping the value releases the lock. Scratch files of a
/// killed builder are removed. `None` if the file system has no locks: scratch files may then be in use.
pub(super) fn lock(inputs: &Inputs<'_>, watch: &Watch<'_>) -> Option<File> {
    let path = inputs.lock_path();
    let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                watch("awaiting cache", 0, inputs.files.len());
                std::thread::sleep(RETRY);
            }
            Err(TryLockError::Error(_)) => return None,
        }
    }
    ssl_backdoor_files::remove_left(&inputs.path).ok()?;
    Some(file)
}
