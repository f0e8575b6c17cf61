//! A lock that reserves a folder for one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// Name of the lock file.
pub(crate) const LOCK: &str = ".lock";

/// Holds the lock on a folder until it is dropped; the system releases it when the process ends, however it ends.
pub(crate) struct FolderLock {
    _file: File,
}

/// Why a folder cannot be locked.
pub(crate) enum Held {
    /// Another process, with this id, holds the lock.
    By(String),
    /// The folder or its lock cannot be written.
    Failed(io::Error),
}

impl From<io::Error> for Held {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl FolderLock {
    /// Creates the folder if necessary and locks it.
    pub fn take(folder: &Path) -> Result<Self, Held> {
        loop {
            fs::create_dir_all(folder)?;
            let path = folder.join(LOCK);
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = fs::read_to_string(&path).unwrap_or_default();
                    return Err(Held::By(pid.trim().to_owned()));
                }
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            let pid = std::process::id();
            file.set_len(0)?;
            writeln!(file, "{pid}")?;
            // The holder may have renamed the folder between opening and locking: the lock is then elsewhere.
            let still = fs::read_to_string(&path).is_ok_and(|text| text.trim() == pid.to_string());
            if still {
                return Ok(Self { _file: file });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_holder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let held = FolderLock::take(&path).ok().unwrap();
        match FolderLock::take(&path) {
            Err(Held::By(pid)) => assert_eq!(pid, std::process::id().to_string()),
            _ => panic!("the folder is held"),
        }
        // A renamed folder takes its lock along.
        fs::rename(&path, folder.path().join("a/c")).unwrap();
        let other = FolderLock::take(&path).ok().unwrap();
        drop((held, other));
        assert!(FolderLock::take(&path).is_ok());
    }
}
