#![doc = include_str!("../README.md")]

mod folder;
mod shared;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

pub use folder::{NewFolder, rename_folder};
pub use shared::{Shared, remove_left};

/// Writes `bytes` to `NAME.tmp` beside `path`, flushes them to disk and renames the file to `path`.
///
/// # Errors
/// The file cannot be written. An existing file at `path` is left unchanged, and the temporary file is removed.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut scratch = path.as_os_str().to_owned();
    scratch.push(".tmp");
    let written = File::create(&scratch).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&scratch, path)).inspect_err(|_| {
        // If this fails too, the first error is the one returned.
        let _ = fs::remove_file(&scratch);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_a_failed_write_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.json");
        write(&path, b"one").unwrap();
        // Leftovers of a killed process are overwritten.
        fs::write(folder.path().join("scores.json.tmp"), "half of some").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // The temporary file cannot be created: a folder is in its place.
        fs::create_dir(folder.path().join("scores.json.tmp")).unwrap();
        assert!(write(&path, b"three").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // The temporary file cannot be renamed.
        fs::create_dir_all(folder.path().join("taken/full")).unwrap();
        assert!(write(&folder.path().join("taken"), b"four").is_err());
        assert!(folder.path().join("taken/full").exists());
        assert!(!folder.path().join("taken.tmp").exists());
    }

    #[test]
    fn a_folder_that_does_not_exist_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("none/file"), b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
