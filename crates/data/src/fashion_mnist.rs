//! Fashion-MNIST: 60,000 + 10,000 grey 28×28 photographs of clothes, in IDX files.

use std::path::Path;

use fast_image_resize as fir;
use image::{GrayImage, RgbImage};
use ssl_backdoor_trigger::chance::Purpose;

use crate::{DataError, Sample, idx, subset};

/// Class names by label.
pub(crate) const CLASSES: [&str; 10] = [
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
];

/// Where Debian's package puts the files.
const DEBIAN: &str = "/usr/share/datasets/fashion-mnist";
const HINT: &str = "Set data.path to a folder with the four IDX files (gzip or not), or on Debian: \
                    apt-get install dataset-fashion-mnist";
/// The first half of the test images is `dev`, the second half `test`.
const DEV_IMAGES: usize = 5000;
/// Ids of test images start here, so that no id names two images.
const TEST_IDS: u64 = 1 << 32;

/// Training, dev and test images: grey made RGB, resized to `size`.
pub(crate) fn read(
    path: Option<&Path>,
    size: u32,
    per_class: Option<u32>,
    seed: u64,
) -> Result<[Vec<Sample>; 3], DataError> {
    let folder = path.unwrap_or(Path::new(DEBIAN));
    let train = Part::read(folder, "train")?;
    let test = Part::read(folder, "t10k")?;
    let kept: Vec<usize> = match per_class {
        None => (0..train.labels.len()).collect(),
        Some(n) => {
            let all: Vec<(u64, u32)> =
                train.labels.iter().enumerate().map(|(i, &l)| (i as u64, l.into())).collect();
            let ids =
                subset::per_class(&all, CLASSES.len() as u32, seed, Purpose::PerClass, |of| {
                    (n as usize).min(of)
                });
            ids.into_iter().map(|id| id as usize).collect()
        }
    };
    let samples = |part: &Part, indices: &mut dyn Iterator<Item = usize>, first_id: u64| {
        indices.map(|i| part.sample(i, first_id, size)).collect()
    };
    let dev_end = DEV_IMAGES.min(test.labels.len());
    Ok([
        samples(&train, &mut kept.into_iter(), 0),
        samples(&test, &mut (0..dev_end), TEST_IDS),
        samples(&test, &mut (dev_end..test.labels.len()), TEST_IDS),
    ])
}

/// One half of the set as it lies in its two files.
struct Part {
    pixels: Vec<u8>,
    height: usize,
    width: usize,
    labels: Vec<u8>,
}

impl Part {
    fn read(folder: &Path, prefix: &str) -> Result<Self, DataError> {
        let images_path = idx::find(folder, &format!("{prefix}-images-idx3-ubyte"), HINT)?;
        let labels_path = idx::find(folder, &format!("{prefix}-labels-idx1-ubyte"), HINT)?;
        let images = idx::read(&images_path, 3)?;
        let labels = idx::read(&labels_path, 1)?;
        let wrong = |reason| DataError::Format { path: labels_path.clone(), reason };
        if images.dims[0] != labels.dims[0] {
            return Err(wrong(format!(
                "{} labels for {} images of {}",
                labels.dims[0],
                images.dims[0],
                images_path.display()
            )));
        }
        if let Some(i) = labels.bytes.iter().position(|&l| l as usize >= CLASSES.len()) {
            return Err(wrong(format!(
                "label {} of image {i}: allowed are 0 to 9",
                labels.bytes[i]
            )));
        }
        let (height, width) = (images.dims[1], images.dims[2]);
        if !(1..=1024).contains(&height) || !(1..=1024).contains(&width) || images.dims[0] == 0 {
            let reason =
                format!("{:?} is no set of images: allowed are sides of 1 to 1024", images.dims);
            return Err(DataError::Format { path: images_path, reason });
        }
        Ok(Self { pixels: images.bytes, height, width, labels: labels.bytes })
    }

    fn sample(&self, index: usize, first_id: u64, size: u32) -> Sample {
        let area = self.height * self.width;
        let grey = &self.pixels[index * area..(index + 1) * area];
        let grey = GrayImage::from_raw(self.width as u32, self.height as u32, grey.to_vec())
            .unwrap_or_default();
        Sample {
            id: first_id + index as u64,
            image: rgb_of_size(&grey, size),
            label: self.labels[index].into(),
        }
    }
}

/// Bilinear as PIL resizes (antialiased when shrinking), then three equal channels.
fn rgb_of_size(grey: &GrayImage, size: u32) -> RgbImage {
    let mut resized = GrayImage::new(size, size);
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new()
        .resize(grey, &mut resized, &options)
        .unwrap_or_else(|e| unreachable!("two grey images of non-zero size: {e}"));
    RgbImage::from_fn(size, size, |x, y| image::Rgb([resized.get_pixel(x, y)[0]; 3]))
}
