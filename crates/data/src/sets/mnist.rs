//! The MNIST family in IDX files: MNIST, Fashion-MNIST and KMNIST, 60,000 + 10,000 grey images of
//! 28×28 pixels in ten classes.

use std::path::Path;

use image::RgbImage;

use super::idx;
use super::input::format;
use super::places::{Packing, Source};
use super::small::Part;
use crate::DataError;

/// A member of the family.
pub(crate) struct Family {
    /// Class names by label.
    pub classes: [&'static str; 10],
    /// Folder where a system package installs the files, if there is one.
    folder: Option<&'static str>,
    source: Source,
}

const HINT: &str = "Set `path` to the folder with the four IDX files (gzip or not).";
/// Names of the file that identifies a folder: as published, and as in a common copy.
const IMAGES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-images-idx3-ubyte.gz",
    "train-images.idx3-ubyte",
    "train-images.idx3-ubyte.gz",
];

/// Handwritten digits.
pub(crate) const MNIST: Family = Family {
    classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    folder: None,
    source: Source {
        name: "MNIST",
        packings: &[Packing { folders: &["", "raw", "MNIST/raw"], files: &IMAGES }],
        archives: &[],
        hint: HINT,
    },
};

/// Photographs of clothes.
pub(crate) const FASHION_MNIST: Family = Family {
    classes: [
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
        "boot",
    ],
    folder: Some("/usr/share/datasets/fashion-mnist"),
    source: Source {
        name: "Fashion-MNIST",
        packings: &[Packing { folders: &["", "raw", "FashionMNIST/raw"], files: &IMAGES }],
        archives: &[],
        hint: "Set `path` to the folder with the four IDX files (gzip or not), or on Debian: \
               apt-get install dataset-fashion-mnist",
    },
};

/// Cursive hiragana.
pub(crate) const KMNIST: Family = Family {
    classes: ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
    folder: None,
    source: Source {
        name: "KMNIST",
        packings: &[Packing { folders: &["", "raw", "KMNIST/raw"], files: &IMAGES }],
        archives: &[],
        hint: HINT,
    },
};

impl Family {
    /// The folder of the system package, or a hint what to do without it.
    pub fn found(&self) -> Result<&'static str, &'static str> {
        self.folder.filter(|folder| Path::new(folder).is_dir()).ok_or(self.source.hint)
    }

    /// Training and test images, converted from grey to RGB.
    pub fn read(&self, path: Option<&Path>) -> Result<[Part; 2], DataError> {
        let Some(folder) = path.or(self.folder.map(Path::new)) else {
            return Err(DataError::Unset { field: "path", hint: self.source.hint.into() });
        };
        let (_, folder) = self.source.find(folder)?;
        Ok([self.part(&folder, "train")?, self.part(&folder, "t10k")?])
    }

    fn part(&self, folder: &Path, prefix: &str) -> Result<Part, DataError> {
        let images_path = idx::find(folder, &format!("{prefix}-images"), 3)?;
        let labels_path = idx::find(folder, &format!("{prefix}-labels"), 1)?;
        let images = idx::read(&images_path, 3)?;
        let labels = idx::read(&labels_path, 1)?;
        let wrong = |reason| format(&labels_path, reason);
        if images.dims[0] != labels.dims[0] {
            return Err(wrong(format!(
                "{} labels for {} images of {}",
                labels.dims[0],
                images.dims[0],
                images_path.display()
            )));
        }
        if let Some(i) = labels.bytes.iter().position(|&l| l as usize >= self.classes.len()) {
            return Err(wrong(format!(
                "label {} of image {i}: allowed are 0 to 9",
                labels.bytes[i]
            )));
        }
        let (height, width) = (images.dims[1], images.dims[2]);
        if !(1..=1024).contains(&height) || !(1..=1024).contains(&width) || images.dims[0] == 0 {
            let reason =
                format!("{:?} are not images: allowed are sides of 1 to 1024", images.dims);
            return Err(format(&images_path, reason));
        }
        let grey = |bytes: &[u8]| {
            RgbImage::from_fn(width as u32, height as u32, |x, y| {
                image::Rgb([bytes[y as usize * width + x as usize]; 3])
            })
        };
        Ok(Part {
            images: images.bytes.chunks_exact(height * width).map(grey).collect(),
            labels: labels.bytes.into_iter().map(u32::from).collect(),
        })
    }
}
