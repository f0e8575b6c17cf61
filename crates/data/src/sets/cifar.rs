//! CIFAR-10 and CIFAR-100 in their binary version: 50,000 + 10,000 images of 32×32 pixels.

use std::path::Path;

use super::{Part, find, format, from_planes, read};
use crate::DataError;

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;
const HINT: &str = "Set data.path to the folder with the unpacked binary version.";

/// One of the two sets.
pub(crate) struct Cifar {
    /// The archive's folder.
    inner: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    /// Label bytes before the pixels; the last counts.
    label_bytes: usize,
    classes: u32,
}

pub(crate) const CIFAR10: Cifar = Cifar {
    inner: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    label_bytes: 1,
    classes: 10,
};

pub(crate) const CIFAR100: Cifar = Cifar {
    inner: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    label_bytes: 2,
    classes: 100,
};

/// Class names of CIFAR-10 by label.
pub(crate) const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

impl Cifar {
    /// Training and test images.
    pub fn read(&self, folder: &Path) -> Result<[Part; 2], DataError> {
        let mut train = Part { images: Vec::new(), labels: Vec::new() };
        for name in self.train {
            let part = self.file(folder, name)?;
            train.images.extend(part.images);
            train.labels.extend(part.labels);
        }
        Ok([train, self.file(folder, self.test)?])
    }

    fn file(&self, folder: &Path, name: &str) -> Result<Part, DataError> {
        let path = find(folder, self.inner, name, HINT)?;
        self.parse(&read(&path)?).map_err(|reason| format(&path, reason))
    }

    /// Reads a file's bytes: labels, then the planes of red, green and blue.
    pub fn parse(&self, bytes: &[u8]) -> Result<Part, String> {
        let record = self.label_bytes + PIXELS;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(format!(
                "{} bytes are no whole number of images of {record} bytes: truncated or another file",
                bytes.len()
            ));
        }
        let mut part = Part { images: Vec::new(), labels: Vec::new() };
        for (i, record) in bytes.chunks_exact(record).enumerate() {
            let (labels, pixels) = record.split_at(self.label_bytes);
            let label = labels.last().copied().unwrap_or_default().into();
            if label >= self.classes {
                return Err(format!(
                    "label {label} of image {i}: allowed are 0 to {}",
                    self.classes - 1
                ));
            }
            part.labels.push(label);
            let at = |c: usize, x: usize, y: usize| pixels[(c * SIDE + y) * SIDE + x];
            part.images.push(from_planes(SIDE as u32, at));
        }
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_and_labels_are_where_they_should_be() {
        let mut bytes = vec![0u8; 2 * 3074];
        (bytes[0], bytes[1]) = (3, 42);
        // Green of pixel (5, 2), and the labels of the second image.
        bytes[2 + 1024 + 2 * 32 + 5] = 200;
        bytes[3075] = 99;
        let part = CIFAR100.parse(&bytes).unwrap();
        assert_eq!(part.labels, [42, 99]);
        assert_eq!(part.images[0].get_pixel(5, 2).0, [0, 200, 0]);
        let wrong = |bytes: &[u8], words: &str| {
            let reason = CIFAR10.parse(bytes).err().unwrap();
            assert!(reason.contains(words), "{reason}");
        };
        wrong(&bytes[..3072], "truncated");
        wrong(&[], "truncated");
        wrong(&vec![10; 3073], "label 10 of image 0");
    }

    #[test]
    fn both_folder_layouts_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&inner).unwrap();
        let error = CIFAR10.read(folder.path()).err().unwrap().to_string();
        assert!(error.contains("data_batch_1.bin"), "{error}");
        for (i, name) in CIFAR10.train.iter().chain([&CIFAR10.test]).enumerate() {
            std::fs::write(inner.join(name), vec![i as u8; 3073]).unwrap();
        }
        for path in [folder.path(), &inner] {
            let [train, test] = CIFAR10.read(path).unwrap();
            assert_eq!((train.labels, test.labels), (vec![0, 1, 2, 3, 4], vec![5]));
        }
    }
}
