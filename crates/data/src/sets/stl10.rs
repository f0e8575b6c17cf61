//! STL-10 in its binary version: 5,000 labelled, 8,000 test and 100,000 unlabelled images of 96×96
//! pixels in ten classes.

use std::path::Path;

use super::{Part, find, format, from_planes, read};
use crate::{DataError, UNLABELLED};

const SIDE: usize = 96;
const PIXELS: usize = 3 * SIDE * SIDE;
const INNER: &str = "stl10_binary";
const HINT: &str = "Set data.path to the folder with the unpacked binary version.";

/// Class names by label.
pub(crate) const CLASSES: [&str; 10] =
    ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

/// Training and test images. With `unlabelled` the training images are the 5,000 labelled ones and
/// then those without a label.
pub(crate) fn load(folder: &Path, unlabelled: bool) -> Result<[Part; 2], DataError> {
    let mut train = part(folder, "train")?;
    if unlabelled {
        let path = find(folder, INNER, "unlabeled_X.bin", HINT)?;
        let more = images(&read(&path)?).map_err(|reason| format(&path, reason))?;
        train.labels.extend(more.iter().map(|_| UNLABELLED));
        train.images.extend(more);
    }
    Ok([train, part(folder, "test")?])
}

fn part(folder: &Path, split: &str) -> Result<Part, DataError> {
    let images_path = find(folder, INNER, &format!("{split}_X.bin"), HINT)?;
    let labels_path = find(folder, INNER, &format!("{split}_y.bin"), HINT)?;
    let images = images(&read(&images_path)?).map_err(|reason| format(&images_path, reason))?;
    let labels = labels(&read(&labels_path)?, images.len());
    Ok(Part { images, labels: labels.map_err(|reason| format(&labels_path, reason))? })
}

/// Planes of red, green and blue, each column by column.
pub(crate) fn images(bytes: &[u8]) -> Result<Vec<image::RgbImage>, String> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(PIXELS) {
        return Err(format!(
            "{} bytes are no whole number of images of {PIXELS} bytes: truncated or another file",
            bytes.len()
        ));
    }
    let image =
        |pixels: &[u8]| from_planes(SIDE as u32, |c, x, y| pixels[(c * SIDE + x) * SIDE + y]);
    Ok(bytes.chunks_exact(PIXELS).map(image).collect())
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
        let error = load(folder.path(), false).err().unwrap().to_string();
        assert!(error.contains("test_y.bin: label 11 of image 1"), "{error}");
    }
}
