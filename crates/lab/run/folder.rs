//! The folder of a run: one process at a time, and files that are written completely or not at all.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::record::write_whole;

const LOCK: &str = ".lock";
/// How long to wait for a lock that a reader may be holding briefly.
const MOMENT: Duration = Duration::from_millis(100);

/// An open run folder, locked against other processes until it is dropped.
pub struct RunFolder {
    path: PathBuf,
    /// Holds the lock. The operating system releases it when the process ends, for any reason.
    _lock: File,
}

impl RunFolder {
    /// Creates the folder if necessary and locks it.
    ///
    /// # Errors
    /// The folder cannot be created or written, or another process is using it.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        fs::create_dir_all(path)
            .with_context(|| format!("cannot create the run folder {shown}"))?;
        let lock_path = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("cannot write in the run folder {shown}"))?;
        match try_lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&lock_path).unwrap_or_default();
                bail!(
                    "another process (pid {}) is using {shown}: wait for it, or choose another \
                     folder with --out",
                    pid.trim()
                );
            }
            Err(TryLockError::Error(e)) => {
                return Err(e).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .with_context(|| format!("cannot write {}", lock_path.display()))?;
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Whether a process is using the folder `path`. Nothing is created or changed there.
    pub(crate) fn is_at_work(path: &Path) -> bool {
        let Ok(lock) = File::open(path.join(LOCK)) else { return false };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Whether a process has ever used the folder `path`.
    pub(crate) fn was_opened(path: &Path) -> bool {
        path.join(LOCK).exists()
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in the folder.
    pub fn join(&self, name: impl fmt::Display) -> PathBuf {
        self.path.join(name.to_string())
    }

    /// Creates a subfolder.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn make(&self, name: impl fmt::Display) -> Result<PathBuf> {
        let path = self.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Writes a file under a temporary name, flushes it to disk and renames it.
    ///
    /// # Errors
    /// It cannot be written; an older file with that name is then unchanged.
    pub fn write(&self, name: impl fmt::Display, bytes: &[u8]) -> Result<()> {
        write_whole(&self.join(name), bytes)
    }
}

/// Locks the file. A [reader](RunFolder::is_at_work) holds the lock for a moment; wait for that.
fn try_lock(lock: &File) -> Result<(), TryLockError> {
    let since = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if since.elapsed() < MOMENT => {
                thread::sleep(MOMENT / 10);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_files_replace_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let run = RunFolder::open(&path).unwrap();
        let message = RunFolder::open(&path).err().unwrap().to_string();
        assert!(message.contains("another process"), "{message}");
        run.write("f", b"one").unwrap();
        run.write("f", b"two").unwrap();
        assert_eq!(fs::read(run.join("f")).unwrap(), b"two");
        drop(run);
        RunFolder::open(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "mine").unwrap();
        let message = RunFolder::open(&path).err().unwrap().to_string();
        assert!(message.contains("cannot create the run folder"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
