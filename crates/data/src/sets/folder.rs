//! Image folders: `PATH/train/CLASS/*` and `PATH/val/CLASS/*`, classes and files sorted by name.

use std::path::{Path, PathBuf};

use super::format;
use crate::DataError;

/// Extensions of images, in any case.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// One listed image: its path and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub path: PathBuf,
    pub label: u32,
}

/// The class folders of `folder`, sorted by name.
pub(crate) fn classes(folder: &Path) -> Result<Vec<String>, DataError> {
    let classes: Vec<String> =
        names(folder)?.into_iter().filter(|name| folder.join(name).is_dir()).collect();
    if classes.is_empty() {
        return Err(format(folder, "it has no class folders (expected CLASS/*.jpg in it)".into()));
    }
    Ok(classes)
}

/// The images of `classes` in `folder`, class by class. A class without a folder is an error, one
/// without images too.
pub(crate) fn list(folder: &Path, classes: &[String]) -> Result<Vec<Entry>, DataError> {
    let mut entries = Vec::new();
    for (label, class) in (0..).zip(classes) {
        let inside = folder.join(class);
        let before = entries.len();
        for name in names(&inside)? {
            let path = inside.join(name);
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            // A folder may be named like an image.
            if EXTENSIONS.contains(&extension.as_str()) && path.is_file() {
                entries.push(Entry { path, label });
            }
        }
        if entries.len() == before {
            return Err(format(&inside, "the class has no .jpg, .jpeg or .png files".into()));
        }
    }
    Ok(entries)
}

/// What lies in a folder, sorted by name; hidden files are left out.
fn names(folder: &Path) -> Result<Vec<String>, DataError> {
    let wrong = |source| DataError::Read { path: folder.into(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let name = entry.map_err(wrong)?.file_name();
        let Some(name) = name.to_str() else {
            return Err(format(&folder.join(&name), "the name is not UTF-8".into()));
        };
        if !name.starts_with('.') {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
