//! STL-10 in its binary version: 5,000 labelled, 8,000 test and 100,000 unlabelled images of 96×96
//! pixels in ten classes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use image::RgbImage;

use super::input::{format, from_planes, read};
use super::places::{self, Packing, Source};
use super::small::Part;
use crate::{DataError, UNLABELLED};

const SIDE: usize = 96;
const PIXELS: usize = 3 * SIDE * SIDE;
const SOURCE: Source = Source {
    name: "STL-10",
    packings: &[Packing { folders: &["", "stl10_binary"], files: &["train_X.bin", "test_X.bin"] }],
    archives: &["stl10_binary.tar.gz"],
    hint: "Set `path` to the folder that stl10_binary.tar.gz unpacks to.",
};

/// Class names by label.
pub(crate) const CLASSES: [&str; 10] =
    ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

/// Training and test images. With `unlabelled` the training images are the 5,000 labelled ones and
/// then those without a label.
pub(crate) fn load(folder: &Path, unlabelled: bool) -> Result<[Part; 2], DataError> {
    let (_, folder) = SOURCE.find(folder)?;
    let mut train = part(&folder, "train")?;
    if unlabelled {
        let more = image_file(&places::file(&folder, "unlabeled_X.bin")?)?;
        train.labels.extend(more.iter().map(|_| UNLABELLED));
        train.images.extend(more);
    }
    Ok([train, part(&folder, "test")?])
}

fn part(folder: &Path, split: &str) -> Result<Part, DataError> {
    let images = image_file(&places::file(folder, &format!("{split}_X.bin"))?)?;
    let path = places::file(folder, &format!("{split}_y.bin"))?;
    let labels = labels(&read(&path)?, images.len()).map_err(|reason| format(&path, reason))?;
    Ok(Part { images, labels })
}

/// The images of a file. It is read image by image: the unlabelled ones are 2.8 GB.
fn image_file(path: &Path) -> Result<Vec<RgbImage>, DataError> {
    let wrong = |source| DataError::Read { path: path.into(), source };
    let file = File::open(path).map_err(wrong)?;
    let length = file.metadata().map_err(wrong)?.len();
    images(BufReader::new(file), length).map_err(|reason| format(path, reason))
}

/// Planes of red, green and blue, each column by column, `length` bytes in all.
pub(crate) fn images(mut bytes: impl Read, length: u64) -> Result<Vec<RgbImage>, String> {
    if length == 0 || !length.is_multiple_of(PIXELS as u64) {
        return Err(format!(
            "{length} bytes are not a multiple of the image size, {PIXELS} bytes: truncated or another file"
        ));
    }
    let mut pixels = vec![0; PIXELS];
    let image = |_| {
        bytes.read_exact(&mut pixels).map_err(|e| format!("cannot be read: {e}"))?;
        Ok(from_planes(SIDE as u32, |c, x, y| pixels[(c * SIDE + x) * SIDE + y]))
    };
    (0..length / PIXELS as u64).map(image).collect()
}

/// `count` labels, 1 to 10 in the file.
pub(crate) fn labels(bytes: &[u8], count: usize) -> Result<Vec<u32>, String> {
    if bytes.len() != count {
        return Err(format!("{} labels for {count} images", bytes.len()));
    }
    let wrong = |i: usize| format!("label {} of image {i}: allowed are 1 to 10", bytes[i]);
    match bytes.iter().position(|label| !(1..=10).contains(label)) {
        Some(i) => Err(wrong(i)),
        None => Ok(bytes.iter().map(|&label| u32::from(label) - 1).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_first_and_labels_count_from_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0u8; PIXELS];
        // Blue of pixel (x 7, y 2).
        bytes[2 * SIDE * SIDE + 7 * SIDE + 2] = 9;
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("train_X.bin", &bytes);
        write("train_y.bin", &[10]);
        write("test_X.bin", &[bytes.clone(), bytes.clone()].concat());
        write("test_y.bin", &[1, 2]);
        write("unlabeled_X.bin", &bytes);
        let [train, test] = load(folder.path(), true).unwrap();
        assert_eq!(train.images[0].get_pixel(7, 2).0, [0, 0, 9]);
        assert_eq!((train.labels, test.labels), (vec![9, UNLABELLED], vec![0, 1]));
        write("test_y.bin", &[1, 11]);
        let of = |words: &str| {
            let error = load(folder.path(), false).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        };
        of("test_y.bin: label 11 of image 1");
        write("test_X.bin", &bytes[1..]);
        of("truncated");
        std::fs::remove_file(folder.path().join("train_y.bin")).unwrap();
        of("train_y.bin");
    }
}
