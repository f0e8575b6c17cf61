//! Image folders: `PATH/train/CLASS/*` and `PATH/val/CLASS/*`, at any depth below a class folder, in the order of
//! torchvision's `ImageFolder`: classes by name, then folders by path, then files by name. Training images without
//! labels lie directly in `PATH/train`.

use std::ffi::OsStr;
use std::fs::FileType;
use std::path::{Path, PathBuf};

use ssl_backdoor_images::EXTENSIONS;

use super::input::format;
use crate::left_out::{LeftOutKind, Tally};
use crate::{DataError, UNLABELLED};

/// Extensions, in lower case, of unsupported image formats.
const OTHER_IMAGES: [&str; 22] = [
    "heic", "heif", "avif", "svg", "jxl", "jp2", "j2k", "jpf", "psd", "ico", "tga", "exr", "hdr",
    "dds", "raw", "cr2", "cr3", "nef", "arw", "dng", "qoi", "pcx",
];

/// One listed image: its path and its class, or [`UNLABELLED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub path: PathBuf,
    pub label: u32,
}

/// The training images of a folder, with the names of its class folders; without any, the images are unlabelled.
pub(crate) struct Training {
    pub entries: Vec<Entry>,
    pub classes: Option<Vec<String>>,
}

/// The training images of `folder`, which has class folders or, without labels, images directly in it.
///
/// # Errors
/// The folder cannot be read or has no images, or a class folder holds none.
pub(crate) fn training(folder: &Path, tally: &mut Tally) -> Result<Training, DataError> {
    let level = Level::read(folder, tally)?;
    let below = |name: &String| holds_image(&folder.join(name));
    if !level.images.is_empty() && !level.folders.iter().any(below) {
        let entry = |name: &String| Entry { path: folder.join(name), label: UNLABELLED };
        return Ok(Training { entries: level.images.iter().map(entry).collect(), classes: None });
    }
    let classes = level.into_classes(folder, tally)?;
    let entries = of_classes(folder, &classes, tally)?;
    Ok(Training { entries, classes: Some(classes) })
}

/// The class folders of `folder`, sorted by name.
///
/// # Errors
/// The folder cannot be read or has no class folders.
pub(crate) fn classes(folder: &Path, tally: &mut Tally) -> Result<Vec<String>, DataError> {
    Level::read(folder, tally)?.into_classes(folder, tally)
}

/// The images of `classes` in `folder`, class by class. Other contents of `folder` are ignored.
///
/// # Errors
/// A class has no folder, or no images in it.
pub(crate) fn of_classes(
    folder: &Path,
    classes: &[String],
    tally: &mut Tally,
) -> Result<Vec<Entry>, DataError> {
    let mut entries = Vec::new();
    for (label, class) in (0..).zip(classes) {
        let inside = folder.join(class);
        let images = images(&inside, tally)?;
        if images.is_empty() {
            let extensions = EXTENSIONS.join(", .");
            return Err(format(&inside, format!("the class has no images (.{extensions})")));
        }
        entries.extend(images.into_iter().map(|path| Entry { path, label }));
    }
    Ok(entries)
}

/// Evaluation images of `classes` in `folder`. Classes without any are counted, and so are images of other classes.
///
/// # Errors
/// The folder cannot be read, or has no image of these classes.
pub(crate) fn evaluation(
    folder: &Path,
    classes: &[String],
    tally: &mut Tally,
) -> Result<Vec<Entry>, DataError> {
    let (entries, without) = of_known(folder, classes, tally)?;
    without.iter().for_each(|class| tally.add(LeftOutKind::ClassNotInVal, &folder.join(class)));
    Ok(entries)
}

/// The images of `folder` that are of `classes`, and the classes that have none there. Images of other classes are
/// counted.
///
/// # Errors
/// The folder cannot be read, or has no image of these classes.
pub(crate) fn of_known<'c>(
    folder: &Path,
    classes: &'c [String],
    tally: &mut Tally,
) -> Result<(Vec<Entry>, Vec<&'c String>), DataError> {
    let found = self::classes(folder, tally)?;
    let (mut entries, mut without) = (Vec::new(), Vec::new());
    for (label, class) in (0..).zip(classes) {
        let before = entries.len();
        if found.contains(class) {
            let images = images(&folder.join(class), tally)?;
            entries.extend(images.into_iter().map(|path| Entry { path, label }));
        }
        if entries.len() == before {
            without.push(class);
        }
    }
    if entries.is_empty() {
        let (found, classes) = (few(&found), few(classes));
        let reason = format!(
            "no image belongs to a training class: its folders are {found}, but the classes are {classes}"
        );
        return Err(format(folder, reason));
    }
    for other in found.iter().filter(|name| !classes.contains(name)) {
        let images = images(&folder.join(other), tally)?;
        if let Some(first) = images.first() {
            tally.add_many(LeftOutKind::UntrainedClass, images.len(), first);
        }
    }
    Ok((entries, without))
}

/// Counts the class folders of `folder` that are not among `classes`, without looking into them.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn others(
    folder: &Path,
    classes: &[String],
    tally: &mut Tally,
) -> Result<(), DataError> {
    let level = Level::read(folder, tally)?;
    for other in level.folders.iter().filter(|name| !classes.contains(name)) {
        tally.add(LeftOutKind::OtherClass, &folder.join(other));
    }
    level.beside(folder, tally);
    Ok(())
}

/// The first few names, for messages.
fn few(names: &[String]) -> String {
    let shown = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown}, …") } else { shown }
}

/// All images at any depth below a class folder, in torchvision's order.
pub(crate) fn images(folder: &Path, tally: &mut Tally) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
    walk(folder, String::new(), &mut vec![whole], tally, &mut found)?;
    // Compared as strings: "a-b" comes after "a", but before "a/b".
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found.into_iter().flat_map(|(_, images)| images).collect())
}

/// Adds the images of `folder` and of all folders below it, each folder with its path below the class folder. `above`
/// are `folder` and the folders it is in, with links resolved.
fn walk(
    folder: &Path,
    below: String,
    above: &mut Vec<PathBuf>,
    tally: &mut Tally,
    found: &mut Vec<(String, Vec<PathBuf>)>,
) -> Result<(), DataError> {
    let level = match Level::read(folder, tally) {
        Err(error @ DataError::Read { .. }) => {
            return tally.add_bad(LeftOutKind::Unreadable, folder, error);
        }
        level => level?,
    };
    for name in level.folders {
        let path = folder.join(&name);
        let Ok(whole) = std::fs::canonicalize(&path) else { continue };
        if above.contains(&whole) {
            tally.add(LeftOutKind::Loop, &path);
            continue;
        }
        above.push(whole);
        walk(&path, format!("{below}/{name}"), above, tally, found)?;
        above.pop();
    }
    found.push((below, level.images.into_iter().map(|name| folder.join(name)).collect()));
    Ok(())
}

/// Whether there is an image anywhere below `folder`.
fn holds_image(folder: &Path) -> bool {
    images(folder, &mut Tally::new(crate::OnCorrupt::Skip)).is_ok_and(|images| !images.is_empty())
}

/// The images and folders directly in a folder, sorted by name. Other contents are counted.
struct Level {
    images: Vec<String>,
    folders: Vec<String>,
}

impl Level {
    fn read(folder: &Path, tally: &mut Tally) -> Result<Self, DataError> {
        let wrong = |source| DataError::Read { path: folder.into(), source };
        let mut level = Self { images: Vec::new(), folders: Vec::new() };
        let entries: std::io::Result<Vec<_>> =
            std::fs::read_dir(folder).and_then(|entries| entries.collect());
        let mut entries = entries.map_err(wrong)?;
        entries.sort_by_cached_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (name, path) = (entry.file_name(), entry.path());
            let hidden = name.as_encoded_bytes().starts_with(b".");
            let is_folder = is_folder(&path, entry.file_type().map_err(wrong)?);
            let kind = kind(&name);
            let Some(text) = name.to_str().filter(|_| !hidden) else {
                match kind {
                    _ if hidden => tally.add(LeftOutKind::Hidden, &path),
                    Some(other) if !is_folder => tally.add(other, &path),
                    _ => {
                        let error = format(&path, "the name is not UTF-8".into());
                        tally.add_bad(LeftOutKind::Name, &path, error)?;
                    }
                }
                continue;
            };
            match kind {
                _ if is_folder => level.folders.push(text.into()),
                None => level.images.push(text.into()),
                Some(other) => tally.add(other, &path),
            }
        }
        Ok(level)
    }

    /// The folders as classes. Images beside them belong to no class and are counted.
    fn into_classes(self, folder: &Path, tally: &mut Tally) -> Result<Vec<String>, DataError> {
        if self.folders.is_empty() {
            let reason = match self.images.len() {
                0 => "it has no class folders and no images (expected CLASS/*.jpg)".into(),
                count => {
                    format!("its {count} images are not in class folders (expected CLASS/*.jpg)")
                }
            };
            return Err(format(folder, reason));
        }
        self.beside(folder, tally);
        Ok(self.folders)
    }

    fn beside(&self, folder: &Path, tally: &mut Tally) {
        if let Some(first) = self.images.first() {
            tally.add_many(LeftOutKind::BesideClasses, self.images.len(), &folder.join(first));
        }
    }
}

/// Why a file of this name is left out; `None` for an image. The content is checked when it is decoded.
fn kind(name: &OsStr) -> Option<LeftOutKind> {
    let extension =
        Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        ours if EXTENSIONS.contains(&ours) => None,
        other if OTHER_IMAGES.contains(&other) => Some(LeftOutKind::Format),
        _ => Some(LeftOutKind::Other),
    }
}

/// Whether `path` is a folder. Links are followed.
fn is_folder(path: &Path, kind: FileType) -> bool {
    kind.is_dir() || (kind.is_symlink() && path.is_dir())
}

#[cfg(test)]
mod tests;
