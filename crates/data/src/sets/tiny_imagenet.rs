//! Tiny-ImageNet: 200 classes of ImageNet, 100,000 + 10,000 images of 64×64 pixels, as its archive unpacks. Its test
//! images have no labels and are not read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::folder::{self, Entry};
use super::input::{format, read};
use super::places::{self, Packing, Source};
use crate::DataError;
use crate::left_out::Tally;

const SOURCE: Source = Source {
    name: "Tiny-ImageNet",
    packings: &[Packing { folders: &["", "tiny-imagenet-200"], files: &["wnids.txt"] }],
    archives: &["tiny-imagenet-200.zip"],
    hint: "Set `path` to the folder that tiny-imagenet-200.zip unpacks to.",
};

/// The files of the set.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The folder with `train` and `val` in it.
    pub root: PathBuf,
    /// The classes, in lexicographic order; a class's index is its rank. (`wnids.txt` has another order, but a
    /// listing of the folders of `train` has this one.)
    pub wnids: Vec<String>,
    /// Training images.
    pub train: Vec<Entry>,
    /// Evaluation images.
    pub val: Vec<Entry>,
}

/// Lists the files of the set in `folder`. The evaluation images are in one folder with a list of their classes, or,
/// as in many rearranged copies, in a folder for each class.
///
/// # Errors
/// A file or class is missing, or a list is malformed.
pub(crate) fn list(folder: &Path, tally: &mut Tally) -> Result<Listed, DataError> {
    let (_, root) = SOURCE.find(folder)?;
    let path = places::file(&root, "wnids.txt")?;
    let wnids = wnids(&text(&path)?).map_err(|reason| format(&path, reason))?;
    let train = classes(&root.join("train"), &wnids, tally)?;
    let val = root.join("val");
    let path = val.join("val_annotations.txt");
    let val = if !path.is_file() {
        classes(&val, &wnids, tally)?
    } else {
        let listed = annotations(&text(&path)?, &wnids);
        let images = val.join("images");
        let entry = |(name, label): (String, u32)| Entry { path: images.join(name), label };
        listed.map_err(|reason| format(&path, reason))?.into_iter().map(entry).collect()
    };
    match val.iter().find(|entry| !entry.path.is_file()) {
        Some(entry) => Err(DataError::Missing {
            name: "image".into(),
            looked: vec![entry.path.clone()],
            hint: format!("{} names it.", path.display()),
        }),
        None => Ok(Listed { root, wnids, train, val }),
    }
}

/// The images of every class in `folder`: in WNID/images, or in WNID itself.
fn classes(folder: &Path, wnids: &[String], tally: &mut Tally) -> Result<Vec<Entry>, DataError> {
    let inside = |wnid: &String| {
        let images = format!("{wnid}/images");
        if folder.join(&images).is_dir() { images } else { wnid.clone() }
    };
    folder::of_classes(folder, &wnids.iter().map(inside).collect::<Vec<_>>(), tally)
}

fn text(path: &Path) -> Result<String, DataError> {
    String::from_utf8(read(path)?).map_err(|e| format(path, format!("not UTF-8: {e}")))
}

/// The classes that `wnids.txt` names, sorted.
pub(crate) fn wnids(text: &str) -> Result<Vec<String>, String> {
    let mut wnids = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wnid = line.trim();
        if !wnid.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("line {number}: {wnid:?} is not a WordNet id such as n01443537"));
        }
        wnids.push(wnid.to_owned());
    }
    wnids.sort_unstable();
    match wnids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("{} is listed twice", pair[0])),
        None if wnids.is_empty() => Err("it does not name a class".into()),
        None => Ok(wnids),
    }
}

/// File names and classes from the lines of `val_annotations.txt`: a name, a wnid and a box, separated by tabs. The
/// box is not read.
pub(crate) fn annotations(text: &str, wnids: &[String]) -> Result<Vec<(String, u32)>, String> {
    let labels: HashMap<&str, u32> = wnids.iter().map(String::as_str).zip(0..).collect();
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let mut columns = line.split('\t').map(str::trim);
        let (Some(name), Some(wnid)) = (columns.next(), columns.next()) else {
            return Err(format!("line {number} is not 'name<tab>wnid<tab>box': {line:?}"));
        };
        let Some(&label) = labels.get(wnid) else {
            return Err(format!("line {number}: class {wnid:?} is not in wnids.txt"));
        };
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
            return Err(format!("line {number}: {name:?} is not an image in val/images"));
        }
        entries.push((name.to_owned(), label));
    }
    if entries.is_empty() { Err("it lists no images".into()) } else { Ok(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OnCorrupt;

    fn listed(folder: &Path) -> Result<Listed, DataError> {
        list(folder, &mut Tally::new(OnCorrupt::Stop))
    }

    const WNIDS: [&str; 2] = ["n02124075", "n01443537"];

    fn write(path: PathBuf, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The layout of the archive: two classes, two training images each, three for evaluation.
    fn archive(folder: &Path) -> PathBuf {
        let root = folder.join("tiny-imagenet-200");
        write(root.join("wnids.txt"), WNIDS.join("\n").as_bytes());
        write(root.join("words.txt"), b"n01443537\tgoldfish, Carassius auratus\n");
        for wnid in WNIDS {
            for i in 0..2 {
                write(root.join(format!("train/{wnid}/images/{wnid}_{i}.JPEG")), b"");
            }
            write(root.join(format!("train/{wnid}/{wnid}_boxes.txt")), b"");
        }
        let lines = [(0, WNIDS[0]), (1, WNIDS[1]), (2, WNIDS[0])].map(|(i, wnid)| {
            write(root.join(format!("val/images/val_{i}.JPEG")), b"");
            format!("val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
        });
        write(root.join("val/val_annotations.txt"), lines.concat().as_bytes());
        root
    }

    fn shown(entries: &[Entry], root: &Path) -> Vec<(String, u32)> {
        let name = |e: &Entry| e.path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        entries.iter().map(|entry| (name(entry), entry.label)).collect()
    }

    #[test]
    fn the_archives_layout_is_read_from_inside_and_outside() {
        let folder = tempfile::tempdir().unwrap();
        let root = archive(folder.path());
        for path in [folder.path(), &root] {
            let listed = listed(path).unwrap();
            assert_eq!(
                (&listed.root, &listed.wnids[..]),
                (&root, &[WNIDS[1], WNIDS[0]].map(str::to_owned)[..])
            );
            let train = shown(&listed.train, &root);
            assert_eq!(train[1], ("train/n01443537/images/n01443537_1.JPEG".into(), 0));
            assert_eq!(train.len(), 4);
            let labels: Vec<u32> = listed.val.iter().map(|entry| entry.label).collect();
            assert_eq!(labels, [1, 0, 1]);
            assert_eq!(shown(&listed.val, &root)[1].0, "val/images/val_1.JPEG");
        }
    }

    #[test]
    fn evaluation_images_in_folders_of_their_class_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = archive(folder.path());
        std::fs::remove_dir_all(root.join("val")).unwrap();
        write(root.join("val/n01443537/images/val_1.JPEG"), b"");
        write(root.join("val/n02124075/val_0.JPEG"), b"");
        let val = shown(&listed(&root).unwrap().val, &root);
        assert_eq!(val[0], ("val/n01443537/images/val_1.JPEG".into(), 0));
        assert_eq!(val[1], ("val/n02124075/val_0.JPEG".into(), 1));
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let of = |words: &[&str]| {
            let error = listed(folder.path()).unwrap_err().to_string();
            words.iter().for_each(|word| assert!(error.contains(word), "{word}: {error}"));
        };
        of(&["tiny-imagenet-200/wnids.txt", "tiny-imagenet-200.zip"]);
        write(folder.path().join("tiny-imagenet-200.zip"), b"");
        of(&["unzip"]);
        let root = archive(folder.path());
        let annotations = root.join("val/val_annotations.txt");
        for (text, words) in [
            ("val_0.JPEG\n", "line 1 is not"),
            ("val_0.JPEG\tn1\t0\n", "\"n1\" is not in wnids.txt"),
            ("../../etc/passwd\tn01443537\n", "is not an image in"),
            ("\n", "no image"),
        ] {
            write(annotations.clone(), text.as_bytes());
            of(&["val_annotations.txt", words]);
        }
        write(annotations.clone(), b"\nval_0.JPEG\tn01443537\nval_9.JPEG\tn01443537\n");
        of(&["val/images/val_9.JPEG", "val_annotations.txt"]);
        write(annotations, b"val_0.JPEG\tn01443537\n");
        write(root.join("wnids.txt"), b"n01443537\nn01443537\n");
        of(&["n01443537 is listed twice"]);
        write(root.join("wnids.txt"), b"n01443537\nn09999999\n");
        of(&["n09999999"]);
    }
}
