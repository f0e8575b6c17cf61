//! Image folders: `PATH/train/CLASS/*` and `PATH/val/CLASS/*`, at any depth below a class folder, in the order of
//! torchvision's `ImageFolder`: classes by name, then folders by path, then files by name. Training images without
//! labels lie directly in `PATH/train`.

use std::ffi::OsStr;
use std::fs::FileType;
use std::path::{Path, PathBuf};

use super::format;
use crate::decode::EXTENSIONS;
use crate::left_out::{LeftOutKind, Tally};
use crate::{DataError, UNLABELLED};

/// Extensions, in lower case, of images that are not read.
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

/// The training images of a folder, with the names of its class folders; without any, the images carry no labels.
pub(crate) struct Training {
    pub entries: Vec<Entry>,
    pub classes: Option<Vec<String>>,
}

/// The training images of `folder`, which has class folders or, without labels, images directly in it.
///
/// # Errors
/// The folder cannot be read or holds no images, or a class folder holds none.
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

/// The images of `classes` in `folder`, class by class. What else lies in `folder` is not looked at.
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
/// The folder cannot be read, or holds no image of these classes.
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
/// The folder cannot be read, or holds no image of these classes.
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
            "no image is of a training class: its folders are {found}, the classes are {classes}"
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

/// The first of some names.
fn few(names: &[String]) -> String {
    let shown = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown}, …") } else { shown }
}

/// All images at any depth below a class folder, in torchvision's order.
fn images(folder: &Path, tally: &mut Tally) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
    walk(folder, String::new(), &mut vec![whole], tally, &mut found)?;
    // As strings: "a-b" stands behind "a", but before "a/b".
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found.into_iter().flat_map(|(_, images)| images).collect())
}

/// Adds the images of `folder` and of all folders below it, each folder with its path below the class folder. `above`
/// are the folders it lies in, without links.
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

/// Whether an image lies anywhere below `folder`.
fn holds_image(folder: &Path) -> bool {
    images(folder, &mut Tally::new(crate::OnCorrupt::Skip)).is_ok_and(|images| !images.is_empty())
}

/// What lies directly in a folder, sorted by name: images and folders. The rest is counted.
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

    /// The folders as classes; images beside them belong to none.
    fn into_classes(self, folder: &Path, tally: &mut Tally) -> Result<Vec<String>, DataError> {
        if self.folders.is_empty() {
            let reason = match self.images.len() {
                0 => "it has no class folders and no images (expected CLASS/*.jpg in it)".into(),
                count => format!(
                    "its {count} images lie in no class folder (expected CLASS/*.jpg in it)"
                ),
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

/// Whether a file of this name is none of ours, and why: the content is looked at when it is decoded.
fn kind(name: &OsStr) -> Option<LeftOutKind> {
    let extension =
        Path::new(name).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        ours if EXTENSIONS.contains(&ours) => None,
        other if OTHER_IMAGES.contains(&other) => Some(LeftOutKind::Format),
        _ => Some(LeftOutKind::Other),
    }
}

/// Links are followed.
fn is_folder(path: &Path, kind: FileType) -> bool {
    kind.is_dir() || (kind.is_symlink() && path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LeftOut, OnCorrupt};

    /// A folder with these files, empty ones.
    fn with(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        root
    }

    fn below(root: &Path, entries: &[Entry]) -> Vec<(String, u32)> {
        let name = |entry: &Entry| entry.path.strip_prefix(root).unwrap().display().to_string();
        entries.iter().map(|entry| (name(entry), entry.label)).collect()
    }

    fn counts(tally: Tally) -> Vec<(LeftOutKind, usize)> {
        tally.finish().0.iter().map(|LeftOut { kind, count, .. }| (*kind, *count)).collect()
    }

    #[test]
    fn field_f08_folders_are_read_at_any_depth_in_the_order_of_torchvision() {
        // The order is that of torchvision.datasets.ImageFolder on the same files.
        let files = [
            "b/2.png",
            "b/10.PNG",
            "b/a/1.webp",
            "b/a-b/1.jpe",
            "b/a/c/1.jfif",
            "b/Z/1.bmp",
            "a/x/1.tif",
        ];
        let root = with(&files);
        let mut tally = Tally::new(OnCorrupt::Stop);
        let found = training(root.path(), &mut tally).unwrap();
        assert_eq!(found.classes.unwrap(), ["a", "b"]);
        let expected = [
            ("a/x/1.tif", 0),
            ("b/10.PNG", 1),
            ("b/2.png", 1),
            ("b/Z/1.bmp", 1),
            ("b/a/1.webp", 1),
            ("b/a-b/1.jpe", 1),
            ("b/a/c/1.jfif", 1),
        ];
        let expected = expected.map(|(name, label)| (name.to_owned(), label));
        assert_eq!(below(root.path(), &found.entries), expected);
        assert_eq!(counts(tally), []);
    }

    #[test]
    fn field_f08_everything_else_is_counted_by_kind() {
        let root = with(&[
            "a/1.png",
            "a/1.HEIC",
            "a/x/2.avif",
            "a/notes.txt",
            "a/README",
            "a/.x.png",
            "a/.git/config",
            "b/1.png",
            "beside.png",
            "list.csv",
        ]);
        let mut tally = Tally::new(OnCorrupt::Stop);
        let found = training(root.path(), &mut tally).unwrap();
        assert_eq!(found.entries.len(), 2);
        let expected = [
            (LeftOutKind::BesideClasses, 1),
            (LeftOutKind::Format, 2),
            (LeftOutKind::Other, 3),
            (LeftOutKind::Hidden, 2),
        ];
        assert_eq!(counts(tally), expected);
    }

    #[test]
    fn field_f08_classes_that_only_one_part_has_are_counted() {
        let root =
            with(&["a/1.png", "a/2.png", "c/1.png", "c/x/2.png", "d/notes.txt", "b/notes.txt"]);
        let classes = ["a", "b", "e"].map(str::to_owned);
        let mut tally = Tally::new(OnCorrupt::Stop);
        let entries = evaluation(root.path(), &classes, &mut tally).unwrap();
        assert_eq!(below(root.path(), &entries), [("a/1.png".into(), 0), ("a/2.png".into(), 0)]);
        let expected = [
            (LeftOutKind::UntrainedClass, 2),
            (LeftOutKind::ClassNotInVal, 2),
            (LeftOutKind::Other, 2),
        ];
        assert_eq!(counts(tally), expected);
        let none = evaluation(root.path(), &["x".into()], &mut Tally::new(OnCorrupt::Stop));
        let reason = none.unwrap_err().to_string();
        assert!(reason.contains("a, b, c, d") && reason.contains("the classes are x"), "{reason}");
        let mut tally = Tally::new(OnCorrupt::Stop);
        others(root.path(), &classes, &mut tally).unwrap();
        assert_eq!(counts(tally), [(LeftOutKind::OtherClass, 2)]);
    }

    #[test]
    fn images_without_class_folders_carry_no_labels() {
        let root = with(&["2.png", "1.jpg", "notes.txt", "empty/notes.txt"]);
        let mut tally = Tally::new(OnCorrupt::Stop);
        let found = training(root.path(), &mut tally).unwrap();
        assert_eq!(found.classes, None);
        let expected = [("1.jpg".to_owned(), UNLABELLED), ("2.png".to_owned(), UNLABELLED)];
        assert_eq!(below(root.path(), &found.entries), expected);
        // Evaluation images need classes.
        let reason =
            classes(&with(&["1.png"]).path().join(""), &mut tally).unwrap_err().to_string();
        assert!(reason.contains("1 images lie in no class folder"), "{reason}");
        let reason = training(with(&["a/notes.txt"]).path(), &mut tally).err().unwrap().to_string();
        assert!(reason.contains("the class has no images (.jpg, "), "{reason}");
    }

    #[cfg(unix)]
    #[test]
    fn field_f08_links_are_followed_but_not_in_circles() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let elsewhere = with(&["2.png"]);
        let root = with(&["a/1.png", "b/1.png"]);
        symlink("..", root.path().join("a/up")).unwrap();
        symlink(elsewhere.path(), root.path().join("a/more")).unwrap();
        symlink("/nowhere/x.png", root.path().join("a/dead.png")).unwrap();
        let mut tally = Tally::new(OnCorrupt::Stop);
        let found = training(root.path(), &mut tally).unwrap();
        let names: Vec<String> =
            below(root.path(), &found.entries).into_iter().map(|(name, _)| name).collect();
        // "a/up" leads to the folder of the classes, and from there back.
        assert_eq!(names, ["a/1.png", "a/dead.png", "a/more/2.png", "a/up/b/1.png", "b/1.png"]);
        assert_eq!(counts(tally), [(LeftOutKind::Loop, 1)]);
        let odd = root.path().join("a").join(OsStr::from_bytes(b"\xff.png"));
        std::fs::write(odd, b"").unwrap();
        assert!(training(root.path(), &mut Tally::new(OnCorrupt::Stop)).is_err());
        let mut tally = Tally::new(OnCorrupt::Skip);
        training(root.path(), &mut tally).unwrap();
        assert!(counts(tally).contains(&(LeftOutKind::Name, 1)));
    }
}
