//! The data sets, a file each: what lies on disk (or comes from a seed) to samples.

pub(crate) mod cifar;
pub(crate) mod file_list;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod idx;
pub(crate) mod imagenet100;
pub(crate) mod mnist;
pub(crate) mod shapes;
pub(crate) mod stl10;

use std::path::{Path, PathBuf};

use image::RgbImage;
use ssl_backdoor_trigger::chance::Purpose;

use crate::augment::resize_whole;
use crate::{DataError, Sample, subset};

/// Ids of test images start here, so that no id names two images.
const TEST_IDS: u64 = 1 << 32;

/// The data sets that a config can name without a path: where each is, or how to get it.
pub fn data_sets_found() -> [(&'static str, Result<&'static str, &'static str>); 2] {
    [("shapes", Ok("drawn from a seed")), ("fashion-mnist", mnist::FASHION_MNIST.found())]
}

/// Images of a small set as they lie in its files.
pub(crate) struct Part {
    /// The images, all of one size.
    pub images: Vec<RgbImage>,
    /// As many labels.
    pub labels: Vec<u32>,
}

impl Part {
    /// As samples of `size`×`size` pixels: those at `indices`, with ids from `first_id`.
    fn samples(
        &self,
        indices: impl Iterator<Item = usize>,
        first_id: u64,
        size: u32,
    ) -> Vec<Sample> {
        let sample = |i: usize| {
            Sample::new(first_id + i as u64, square(&self.images[i], size), self.labels[i])
        };
        indices.map(sample).collect()
    }
}

/// Training, dev and test images of a small set. `per_class` keeps a seeded sample of the labelled
/// training images; the first half of the test images is dev, the second test.
pub(crate) fn splits(
    train: &Part,
    test: &Part,
    classes: u32,
    size: u32,
    per_class: Option<u32>,
    seed: u64,
) -> [Vec<Sample>; 3] {
    let kept: Vec<usize> = match per_class {
        None => (0..train.labels.len()).collect(),
        Some(n) => {
            let labels = train.labels.iter().enumerate();
            let all: Vec<(u64, u32)> = labels.map(|(i, &l)| (i as u64, l)).collect();
            let count = |of: usize| (n as usize).min(of);
            let ids = subset::per_class(&all, classes, seed, Purpose::PerClass, count);
            ids.into_iter().map(|id| id as usize).collect()
        }
    };
    let half = test.labels.len() / 2;
    [
        train.samples(kept.into_iter(), 0, size),
        test.samples(0..half, TEST_IDS, size),
        test.samples(half..test.labels.len(), TEST_IDS, size),
    ]
}

fn square(image: &RgbImage, size: u32) -> RgbImage {
    if image.dimensions() == (size, size) {
        return image.clone();
    }
    resize_whole(image, (size, size))
}

/// An image from three planes, `at(channel, x, y)` giving the bytes.
fn from_planes(side: u32, at: impl Fn(usize, usize, usize) -> u8) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        image::Rgb([0, 1, 2].map(|c| at(c, x as usize, y as usize)))
    })
}

/// The file `name` in `folder` or in its sub-folder `inner` (where the archive of the set puts it).
fn find(folder: &Path, inner: &str, name: &str, hint: &str) -> Result<PathBuf, DataError> {
    let looked = vec![folder.join(name), folder.join(inner).join(name)];
    looked.iter().find(|path| path.is_file()).cloned().ok_or_else(|| DataError::Missing {
        name: name.into(),
        looked: looked.clone(),
        hint: hint.into(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })
}

pub(crate) fn format(path: &Path, reason: String) -> DataError {
    DataError::Format { path: path.into(), reason }
}
