//! A file that several processes may write at the same time.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Suffix of the names of scratch files; they begin with the name of the file and a dot.
const END: &str = ".tmp";

/// A file that is written under its own temporary name, `NAME.RANDOM.tmp`. Of several writers, the last to finish
/// determines the content. It is removed on drop, unless it is [finished](Self::finish).
#[derive(Debug)]
pub struct Shared {
    scratch: NamedTempFile,
}

impl Shared {
    /// A new file beside `path`, with the permissions of the user's other files.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let start = start(path);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&start).suffix(END);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Self { scratch: builder.tempfile_in(path.parent().unwrap_or(Path::new("")))? })
    }

    /// Flushes it to disk and renames it to `path`. Returns a handle to the file that was written, even if another
    /// process replaces it at this path.
    ///
    /// # Errors
    /// It cannot be flushed or renamed; an existing file at `path` is left unchanged.
    pub fn finish(self, path: &Path) -> io::Result<File> {
        self.scratch.as_file().sync_all()?;
        self.scratch.persist(path).map_err(|e| e.error)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.scratch.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.scratch.flush()
    }
}

impl Seek for Shared {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.scratch.seek(to)
    }
}

/// Removes the scratch files of `path` that killed processes left. The caller ensures that no process is writing it.
///
/// # Errors
/// The folder of `path` cannot be read. Files that cannot be removed are left in place.
pub fn remove_left(path: &Path) -> io::Result<()> {
    let start = start(path);
    for entry in path.parent().unwrap_or(Path::new("")).read_dir()?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&start) && name.ends_with(END) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn start(path: &Path) -> String {
    format!("{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = folder.read_dir().unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn writers_do_not_see_each_other_and_the_last_to_finish_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pack");
        let [mut one, mut two] = [(); 2].map(|()| Shared::beside(&path).unwrap());
        one.write_all(b"one").unwrap();
        two.write_all(b"two").unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        two.finish(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        one.finish(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["a.pack"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pack");
        fs::write(&path, "old").unwrap();
        let mut new = Shared::beside(&path).unwrap();
        new.write_all(b"half").unwrap();
        drop(new);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.pack"]);
        // A folder in its place cannot be replaced.
        fs::create_dir(folder.path().join("b.pack")).unwrap();
        let new = Shared::beside(&folder.path().join("b.pack")).unwrap();
        assert!(new.finish(&folder.path().join("b.pack")).is_err());
        assert_eq!(names(folder.path()), ["a.pack", "b.pack"]);
    }

    #[test]
    fn what_killed_writers_left_goes_and_what_is_anothers_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pack");
        for name in ["a.pack", "a.pack.x1.tmp", "a.pack.lock", "b.pack.x2.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_left(&path).unwrap();
        assert_eq!(names(folder.path()), ["a.pack", "a.pack.lock", "b.pack.x2.tmp"]);
    }
}
