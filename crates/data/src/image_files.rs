//! All image files of a folder or a list, without splits or labels.

use std::path::Path;

use crate::left_out::Tally;
use crate::sets::file_list;
use crate::sets::files::{Files, present};
use crate::sets::folder::{self, Entry};
use crate::{DataError, LeftOut, OnCorrupt, Split, UNLABELLED, Watch};

/// The image files of a folder or a list.
pub struct ImageFiles {
    /// The images; [unlabelled](UNLABELLED) from a folder, with the labels of the list from a list.
    pub split: Split,
    /// What was left out, by kind.
    pub left_out: Vec<LeftOut>,
    /// Files among them that should have been images, each with the error.
    pub skipped: Vec<String>,
}

impl ImageFiles {
    /// All images at any depth below the folder `path`, in the order of torchvision's `ImageFolder`, or those that
    /// the file list `path` names. Every file is decoded once; files that cannot be decoded are left out.
    ///
    /// # Errors
    /// The folder or the list cannot be read, names an image twice, or has no readable image.
    pub fn read(path: &Path, watch: &Watch<'_>) -> Result<Self, DataError> {
        let mut tally = Tally::new(OnCorrupt::Skip);
        let (entries, root) = if path.is_dir() {
            let entry = |path| Entry { path, label: UNLABELLED };
            (folder::images(path, &mut tally)?.into_iter().map(entry).collect(), path)
        } else {
            (file_list::load(path, None)?, path.parent().unwrap_or(Path::new("")))
        };
        let files = Files::new(present(entries, &mut tally)?, root, false)?;
        let bad = files.corrupt(watch);
        let split = files.without(bad, &mut tally)?.into_split();
        let (left_out, skipped) = tally.finish();
        if split.labels.is_empty() {
            let first = skipped.first().map_or(String::new(), |first| format!(" ({first})"));
            let reason = format!("it contains no readable image{first}");
            return Err(DataError::Format { path: path.into(), reason });
        }
        Ok(Self { split, left_out, skipped })
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    #[test]
    fn a_folder_gives_all_its_images_and_a_list_those_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        for name in ["a/b/1.png", "a/2.png", "3.png"] {
            RgbImage::new(4, 4).save(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("a/broken.png"), "no image").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "notes").unwrap();
        let all = ImageFiles::read(folder.path(), &|_, _, _| {}).unwrap();
        assert_eq!((all.split.set.len(), all.skipped.len()), (3, 1));
        assert!(all.skipped[0].contains("broken.png"), "{:?}", all.skipped);
        assert!(all.split.labels.iter().all(|(_, label)| *label == UNLABELLED));

        let list = folder.path().join("list.txt");
        std::fs::write(&list, "a/2.png 5\na/absent.png 1\n").unwrap();
        let some = ImageFiles::read(&list, &|_, _, _| {}).unwrap();
        assert_eq!((some.split.set.len(), some.split.labels[0].1), (1, 5));
        // An image has one id, however it is found.
        assert!(all.split.labels.iter().any(|(id, _)| *id == some.split.labels[0].0));
        std::fs::write(&list, "a/broken.png\n").unwrap();
        let message = ImageFiles::read(&list, &|_, _, _| {}).err().unwrap().to_string();
        assert!(message.contains("no readable image") && message.contains("broken.png"));
        let empty = tempfile::tempdir().unwrap();
        assert!(ImageFiles::read(empty.path(), &|_, _, _| {}).is_err());
    }
}
