//! CIFAR-10 and CIFAR-100: 50,000 + 10,000 images of 32×32 pixels, in their binary or their Python version. Both
//! contain the same images in the same order.

use std::path::Path;

use image::RgbImage;

use super::input::{format, from_planes, read};
use super::pickle::{self, Value};
use super::places::{self, Packing, Source};
use super::small::Part;
use crate::DataError;

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// One of the two sets.
pub(crate) struct Cifar {
    /// The binary version, records of labels and pixels, and the Python version, pickled dictionaries.
    source: Source,
    /// The file of the test images in either version; all others are training images.
    tests: [&'static str; 2],
    /// Label bytes before the pixels; the last one is the label.
    label_bytes: usize,
    /// The key of the labels in a dictionary.
    label_key: &'static str,
    classes: u32,
}

pub(crate) const CIFAR10: Cifar = Cifar {
    source: Source {
        name: "CIFAR-10",
        packings: &[
            Packing {
                folders: &["", "cifar-10-batches-bin"],
                files: &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                    "test_batch.bin",
                ],
            },
            Packing {
                folders: &["", "cifar-10-batches-py"],
                files: &[
                    "data_batch_1",
                    "data_batch_2",
                    "data_batch_3",
                    "data_batch_4",
                    "data_batch_5",
                    "test_batch",
                ],
            },
        ],
        archives: &["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"],
        hint: "Set `path` to the folder that cifar-10-binary.tar.gz or cifar-10-python.tar.gz unpacks to.",
    },
    tests: ["test_batch.bin", "test_batch"],
    label_bytes: 1,
    label_key: "labels",
    classes: 10,
};

pub(crate) const CIFAR100: Cifar = Cifar {
    source: Source {
        name: "CIFAR-100",
        packings: &[
            Packing { folders: &["", "cifar-100-binary"], files: &["train.bin", "test.bin"] },
            Packing { folders: &["", "cifar-100-python"], files: &["train", "test"] },
        ],
        archives: &["cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"],
        hint: "Set `path` to the folder that cifar-100-binary.tar.gz or cifar-100-python.tar.gz unpacks to.",
    },
    tests: ["test.bin", "test"],
    label_bytes: 2,
    label_key: "fine_labels",
    classes: 100,
};

/// Class names of CIFAR-10 by label.
pub(crate) const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

impl Cifar {
    /// Reads the training and test images.
    pub fn read(&self, folder: &Path) -> Result<[Part; 2], DataError> {
        let (found, folder) = self.source.find(folder)?;
        let part = |name: &str| {
            let path = places::file(&folder, name)?;
            let bytes = read(&path)?;
            let part = if found == 0 { self.parse(&bytes) } else { self.parse_pickle(&bytes) };
            part.map_err(|reason| format(&path, reason))
        };
        let test = self.tests[found];
        let mut train = Part { images: Vec::new(), labels: Vec::new() };
        for name in self.source.packings[found].files.iter().filter(|name| **name != test) {
            let more = part(name)?;
            train.images.extend(more.images);
            train.labels.extend(more.labels);
        }
        Ok([train, part(test)?])
    }

    /// Reads a file's bytes: labels, then the planes of red, green and blue.
    pub fn parse(&self, bytes: &[u8]) -> Result<Part, String> {
        let record = self.label_bytes + PIXELS;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(format!(
                "{} bytes are not a multiple of the image size, {record} bytes: truncated or another file",
                bytes.len()
            ));
        }
        let mut part = Part { images: Vec::new(), labels: Vec::new() };
        for (i, record) in bytes.chunks_exact(record).enumerate() {
            let (labels, pixels) = record.split_at(self.label_bytes);
            let label = labels.last().copied().unwrap_or_default();
            part.labels.push(self.label(i, label.into())?);
            part.images.push(image(pixels));
        }
        Ok(part)
    }

    /// Reads a pickled dictionary: an array of rows, each the planes of red, green and blue, and a list of labels.
    pub fn parse_pickle(&self, bytes: &[u8]) -> Result<Part, String> {
        let batch = pickle::parse(bytes)?;
        let key = self.label_key;
        let (Some(data), Some(labels)) = (batch.get("data"), batch.get(key)) else {
            return Err(format!("not a dictionary with the keys \"data\" and {key:?}"));
        };
        let (count, pixels) = match data {
            Value::Array { shape, bytes } if shape[..] == [bytes.len() / PIXELS, PIXELS] => {
                (shape[0], bytes)
            }
            Value::Array { shape, .. } => {
                return Err(format!(
                    "\"data\" has the shape {shape:?}: expected [images, {PIXELS}]"
                ));
            }
            _ => return Err("\"data\" is not a NumPy array of unsigned bytes".into()),
        };
        let Value::List(labels) = labels else { return Err(format!("{key:?} is not a list")) };
        if labels.len() != count || count == 0 {
            return Err(format!("{} labels for {count} images", labels.len()));
        }
        let label = |(i, label): (usize, &Value<'_>)| match label {
            Value::Int(label) => self.label(i, *label),
            _ => Err(format!("the label of image {i} is not a number")),
        };
        Ok(Part {
            labels: labels.iter().enumerate().map(label).collect::<Result<_, String>>()?,
            images: pixels.chunks_exact(PIXELS).map(image).collect(),
        })
    }

    /// The label of image `i`, if it is valid.
    fn label(&self, i: usize, label: i64) -> Result<u32, String> {
        let allowed = u32::try_from(label).ok().filter(|label| *label < self.classes);
        let largest = self.classes - 1;
        allowed.ok_or_else(|| format!("label {label} of image {i}: allowed are 0 to {largest}"))
    }
}

/// An image from its planes of red, green and blue, each row by row.
fn image(pixels: &[u8]) -> RgbImage {
    from_planes(SIDE as u32, |c, x, y| pixels[(c * SIDE + y) * SIDE + x])
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
        for words in
            ["data_batch_1.bin", "cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz"]
        {
            assert!(error.contains(words), "{error}");
        }
        for (i, name) in CIFAR10.source.packings[0].files.iter().enumerate() {
            std::fs::write(inner.join(name), vec![i as u8; 3073]).unwrap();
        }
        for path in [folder.path(), &inner] {
            let [train, test] = CIFAR10.read(path).unwrap();
            assert_eq!((train.labels, test.labels), (vec![0, 1, 2, 3, 4], vec![5]));
        }
        std::fs::remove_file(inner.join("data_batch_3.bin")).unwrap();
        let error = CIFAR10.read(folder.path()).err().unwrap().to_string();
        assert!(error.contains("data_batch_3.bin") && error.contains("incomplete"), "{error}");
    }

    /// The fixtures have the value 7 i + 3 j + k, as a byte, at position k of channel j of image i; Python read them
    /// back (tests/fixtures/pickles).
    #[test]
    fn pickles_of_python_2_and_3_hold_the_images_of_the_binary_version() {
        let batches: [(&Cifar, &[u8]); 4] = [
            (&CIFAR10, include_bytes!("../../tests/fixtures/pickles/cifar10-python2")),
            (&CIFAR10, include_bytes!("../../tests/fixtures/pickles/cifar10-protocol3")),
            (&CIFAR10, include_bytes!("../../tests/fixtures/pickles/cifar10-protocol4")),
            (&CIFAR100, include_bytes!("../../tests/fixtures/pickles/cifar100-python2")),
        ];
        for (set, bytes) in batches {
            let labels: [u8; 3] = if set.classes == 10 { [6, 0, 9] } else { [99, 0, 42] };
            let mut records = Vec::new();
            for (i, label) in labels.iter().enumerate() {
                records.extend([11, *label].iter().skip(2 - set.label_bytes));
                let pixel = |at: usize| (7 * i + 3 * (at / 1024) + at % 1024) as u8;
                records.extend((0..PIXELS).map(pixel));
            }
            let (binary, pickled) =
                (set.parse(&records).unwrap(), set.parse_pickle(bytes).unwrap());
            assert_eq!(binary.labels, pickled.labels);
            assert_eq!(binary.images, pickled.images);
            for end in (0..bytes.len()).step_by(37) {
                assert!(set.parse_pickle(&bytes[..end]).is_err());
            }
        }
        let wrong = |set: &Cifar, bytes: &[u8], words: &str| {
            let reason = set.parse_pickle(bytes).err().unwrap();
            assert!(reason.contains(words), "{reason}");
        };
        wrong(&CIFAR100, batches[0].1, "fine_labels");
        wrong(&CIFAR10, batches[3].1, "\"labels\"");
        let at = batches[0].1.windows(3).position(|w| w == b"K\x06K").unwrap();
        let mut changed = batches[0].1.to_vec();
        changed[at + 1] = 10;
        wrong(&CIFAR10, &changed, "label 10 of image 0: allowed are 0 to 9");
    }
}
