//! The contents of a folder of images, before a config says how it is read.

use std::path::{Path, PathBuf};

use crate::left_out::Tally;
use crate::sets::folder::{classes, images};
use crate::{DataError, OnCorrupt};

/// Largest number of images whose size is read.
const LOOKED_AT: usize = 200;

/// A folder with class folders in it: `FOLDER/train/CLASS/*` and `FOLDER/val/CLASS/*`, or `FOLDER/CLASS/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The class folders that contain images, by name.
    pub classes: Vec<SurveyedClass>,
    /// Whether there is a separate evaluation part.
    pub split: bool,
    /// Width and height of some of the images in pixels, sorted by the shorter side. Unreadable images are left out.
    pub sizes: Vec<(u32, u32)>,
}

/// A class folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedClass {
    /// Its name.
    pub name: String,
    /// The images, or the training images if the folder is split, in the order in which they are read.
    pub images: Vec<PathBuf>,
    /// The evaluation images, if the folder is split.
    pub evaluation: Vec<PathBuf>,
}

impl Survey {
    /// Looks at `folder`. A folder `train` without a folder `val` beside it is not split.
    ///
    /// # Errors
    /// It cannot be read or has no class folders, or none of them contains an image.
    pub fn of(folder: &Path) -> Result<Self, DataError> {
        let mut tally = Tally::new(OnCorrupt::Skip);
        let [train, val] = ["train", "val"].map(|part| folder.join(part));
        let split = train.is_dir() && val.is_dir();
        let root = if train.is_dir() { &train } else { folder };
        let mut found = Vec::new();
        for name in classes(root, &mut tally)? {
            let images_of = |part: &Path, tally: &mut Tally| {
                let folder = part.join(&name);
                if folder.is_dir() { images(&folder, tally) } else { Ok(Vec::new()) }
            };
            let own = images_of(root, &mut tally)?;
            let evaluation = if split { images_of(&val, &mut tally)? } else { Vec::new() };
            if !own.is_empty() {
                found.push(SurveyedClass { name, images: own, evaluation });
            }
        }
        if found.is_empty() {
            let reason = "none of its folders holds an image".into();
            return Err(DataError::Format { path: root.into(), reason });
        }
        let all: Vec<&PathBuf> = found.iter().flat_map(|class| &class.images).collect();
        let step = all.len().div_ceil(LOOKED_AT);
        let mut sizes: Vec<_> = all.iter().step_by(step).filter_map(|path| size(path)).collect();
        sizes.sort_by_key(|&(width, height)| width.min(height));
        Ok(Self { classes: found, split, sizes })
    }

    /// The size of the image in the middle, by the shorter side; none if no image can be read.
    pub fn median_size(&self) -> Option<(u32, u32)> {
        self.sizes.get(self.sizes.len() / 2).copied()
    }

    /// Number of images, without those for evaluation.
    pub fn images(&self) -> usize {
        self.classes.iter().map(|class| class.images.len()).sum()
    }
}

fn size(path: &Path) -> Option<(u32, u32)> {
    ssl_backdoor_images::size(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf, width: u32, height: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(width, height).save(path).unwrap();
    }

    #[test]
    fn classes_are_found_with_and_without_a_part_for_evaluation() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(Survey::of(folder.path()).unwrap_err().to_string().contains("no class folders"));
        for i in 0..3 {
            write(at(&format!("cat/{i}.png")), 20, 30 + i);
            write(at(&format!("dog/deep/{i}.png")), 40, 10);
        }
        std::fs::create_dir(at("empty")).unwrap();
        let survey = Survey::of(folder.path()).unwrap();
        let names: Vec<&str> = survey.classes.iter().map(|class| class.name.as_str()).collect();
        assert_eq!((names, survey.images(), survey.split), (vec!["cat", "dog"], 6, false));
        assert_eq!(survey.median_size(), Some((20, 30)));
        for part in ["train", "val"] {
            std::fs::create_dir(at(part)).unwrap();
        }
        std::fs::rename(at("cat"), at("train/cat")).unwrap();
        write(at("val/cat/9.png"), 5, 5);
        let survey = Survey::of(folder.path()).unwrap();
        assert!(survey.split && survey.classes.len() == 1);
        assert_eq!(survey.classes[0].evaluation, [at("val/cat/9.png")]);
    }
}
