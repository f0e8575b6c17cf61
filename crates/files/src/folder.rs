//! A folder that is renamed into place when it is complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A folder that is filled under a temporary name. It is removed on drop, unless it is [finished](Self::finish).
#[derive(Debug)]
pub struct NewFolder {
    scratch: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl NewFolder {
    /// Makes the empty folder `scratch`, which becomes `path`; both must be in the same file system. Leftovers of a
    /// killed process in `scratch` are removed.
    ///
    /// # Errors
    /// `scratch` cannot be removed or created.
    pub fn start(scratch: impl Into<PathBuf>, path: impl Into<PathBuf>) -> io::Result<Self> {
        let new = Self { scratch: scratch.into(), path: path.into(), finished: false };
        if new.scratch.exists() {
            fs::remove_dir_all(&new.scratch)?;
        }
        fs::create_dir(&new.scratch)?;
        Ok(new)
    }

    /// Its path until it is finished.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Renames it to its final path.
    ///
    /// # Errors
    /// As [`rename_folder`].
    pub fn finish(mut self) -> io::Result<()> {
        rename_folder(&self.scratch, &self.path)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.finished {
            // If this fails, the next `start` removes it.
            let _ = fs::remove_dir_all(&self.scratch);
        }
    }
}

/// Renames the folder `from` to `to`, replacing an empty folder there.
///
/// # Errors
/// `to` is a file or a non-empty folder, which is left unchanged, or the folders are in different file systems.
pub fn rename_folder(from: &Path, to: &Path) -> io::Result<()> {
    // Not all systems replace an empty folder. If it is not empty, it stays and the rename fails.
    let _ = fs::remove_dir(to);
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_when_it_is_complete() {
        let here = tempfile::tempdir().unwrap();
        let (scratch, path) = (here.path().join("tmp-1"), here.path().join("step-1"));
        fs::create_dir_all(scratch.join("left by a killed process")).unwrap();
        let new = NewFolder::start(&scratch, &path).unwrap();
        assert_eq!(fs::read_dir(new.scratch()).unwrap().count(), 0);
        fs::write(new.scratch().join("file"), "1").unwrap();
        assert!(!path.exists());
        new.finish().unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "1");
        assert!(!scratch.exists());
    }

    #[test]
    fn a_folder_that_is_not_finished_leaves_the_old_one_and_nothing_else() {
        let here = tempfile::tempdir().unwrap();
        let (scratch, path) = (here.path().join("tmp"), here.path().join("old"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "old").unwrap();
        drop(NewFolder::start(&scratch, &path).unwrap());
        assert!(!scratch.exists());
        let new = NewFolder::start(&scratch, &path).unwrap();
        fs::write(new.scratch().join("file"), "new").unwrap();
        assert!(new.finish().is_err(), "the old folder is not empty");
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "old");
        assert!(!scratch.exists());
        // An empty one is replaced.
        fs::remove_file(path.join("file")).unwrap();
        NewFolder::start(&scratch, &path).unwrap().finish().unwrap();
    }
}
