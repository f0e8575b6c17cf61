//! Finds a set's files: in the folder of the config, or in the folder below it to which the set's archive unpacks.
//! Gives hints if they are missing.

use std::path::{Path, PathBuf};

use crate::DataError;

/// One of the forms in which a set is published.
#[derive(Debug)]
pub(crate) struct Packing {
    /// Folders below the config's that may contain its files; "" = the folder itself.
    pub folders: &'static [&'static str],
    /// Its files. A folder with any of them has this form.
    pub files: &'static [&'static str],
}

/// Endings of archives, and the command that unpacks one.
const COMMANDS: [(&str, &str); 7] = [
    (".tar.gz", "tar xzf"),
    (".tgz", "tar xzf"),
    (".tar.xz", "tar xJf"),
    (".tar.bz2", "tar xjf"),
    (".tar", "tar xf"),
    (".zip", "unzip"),
    (".gz", "gunzip"),
];

/// How the files of a set are published.
#[derive(Debug)]
pub(crate) struct Source {
    /// Name of the set.
    pub name: &'static str,
    /// Its forms; the first that is found is read.
    pub packings: &'static [Packing],
    /// The archives that it is published as.
    pub archives: &'static [&'static str],
    /// What to set `path` to.
    pub hint: &'static str,
}

impl Source {
    /// The position of the form that `folder` contains, and the folder of its files.
    ///
    /// # Errors
    /// [`DataError::Missing`] with the paths that were tried and what to do.
    pub fn find(&self, folder: &Path) -> Result<(usize, PathBuf), DataError> {
        for (position, packing) in self.packings.iter().enumerate() {
            for inner in packing.folders {
                let place = folder.join(inner);
                if packing.files.iter().any(|name| place.join(name).is_file()) {
                    return Ok((position, place));
                }
            }
        }
        let first = |packing: &Packing| {
            let name = packing.files.first().copied().unwrap_or_default();
            packing.folders.iter().map(|inner| folder.join(inner).join(name)).collect::<Vec<_>>()
        };
        let looked = self.packings.iter().flat_map(first).collect();
        Err(DataError::Missing { name: self.name.into(), looked, hint: self.advice(folder) })
    }

    /// What the user can do if the set is not found in `folder`.
    fn advice(&self, folder: &Path) -> String {
        let shown = folder.display();
        if folder.is_file() {
            return match command(folder) {
                Some(command) => format!(
                    "{shown} is an archive: unpack it with `{command}` and set `path` \
                     to its folder."
                ),
                None => format!("{shown} is a file, not a folder. {}", self.hint),
            };
        }
        if !folder.is_dir() {
            return format!("{shown} does not exist. {}", self.hint);
        }
        let packed = self.archives.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        match packed.and_then(|path| Some((command(&path)?, path))) {
            Some((command, path)) => {
                format!("{} is an archive: unpack it with `{command}`.", path.display())
            }
            None => self.hint.into(),
        }
    }
}

/// The file `name` of a set that was found in `folder`.
///
/// # Errors
/// [`DataError::Missing`] if it is not there.
pub(crate) fn file(folder: &Path, name: &str) -> Result<PathBuf, DataError> {
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let hint = "Other files of the set exist, so it is incomplete: unpack it again.".into();
    Err(DataError::Missing { name: name.into(), looked: vec![path], hint })
}

/// The command that unpacks an archive in its folder.
fn command(archive: &Path) -> Option<String> {
    let name = archive.file_name()?.to_str()?.to_ascii_lowercase();
    let (_, command) = COMMANDS.iter().find(|(end, _)| name.ends_with(end))?;
    let folder = archive.parent().filter(|folder| !folder.as_os_str().is_empty());
    let (shown, folder) = (archive.display(), folder.unwrap_or(Path::new(".")).display());
    Some(match *command {
        "unzip" => format!("unzip {shown} -d {folder}"),
        "gunzip" => format!("gunzip {shown}"),
        tar => format!("{tar} {shown} -C {folder}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Source = Source {
        name: "the set",
        packings: &[
            Packing { folders: &["", "set-bin"], files: &["a.bin", "b.bin"] },
            Packing { folders: &["", "set-py"], files: &["a"] },
        ],
        archives: &["set-binary.tar.gz", "set.zip"],
        hint: "Set `path` to a folder.",
    };

    fn place(folder: &Path) -> Result<(usize, PathBuf), String> {
        SET.find(folder).map_err(|e| e.to_string())
    }

    #[test]
    fn a_set_is_found_in_either_form_and_folder() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("set-py");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("a"), "").unwrap();
        for folder in [root.path(), &inner] {
            assert_eq!(
                place(folder),
                Ok((1, folder.join(if folder == inner { "" } else { "set-py" })))
            );
        }
        // The second file of the first form.
        std::fs::write(root.path().join("b.bin"), "").unwrap();
        assert_eq!(place(root.path()).unwrap().0, 0);
        assert!(file(root.path(), "a.bin").unwrap_err().to_string().contains("incomplete"));
    }

    #[test]
    fn what_is_not_found_is_said_with_the_paths_and_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let of = |path: &Path, words: &[&str]| {
            let error = place(path).unwrap_err();
            words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
        };
        let shown = root.path().display().to_string();
        of(root.path(), &["the set", "a.bin", "set-bin/a.bin", "set-py/a", SET.hint]);
        of(&root.path().join("no"), &["/no does not exist"]);
        for (name, command) in [("set-binary.tar.gz", "tar xzf"), ("set.zip", "unzip")] {
            let archive = root.path().join(name);
            std::fs::write(&archive, "").unwrap();
            let command = format!("`{command} {shown}/{name} -");
            of(root.path(), &[&command]);
            of(&archive, &[&command, "set `path` to its folder"]);
            std::fs::remove_file(&archive).unwrap();
        }
        std::fs::write(root.path().join("text"), "").unwrap();
        of(&root.path().join("text"), &["is a file"]);
    }
}
