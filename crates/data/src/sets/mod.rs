//! The data sets, a file each: what lies on disk (or comes from a seed) to samples.

pub(crate) mod cifar;
pub(crate) mod file_list;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod idx;
pub(crate) mod imagenet100;
pub(crate) mod mnist;
pub(crate) mod pickle;
mod places;
pub(crate) mod shapes;
pub(crate) mod small;
pub(crate) mod stl10;
pub(crate) mod tiny_imagenet;

use std::path::Path;

use image::RgbImage;

use crate::DataError;

/// The data sets that a config can name without a path: where each is, or how to get it.
pub fn data_sets_found() -> [(&'static str, Result<&'static str, &'static str>); 2] {
    [("shapes", Ok("drawn from a seed")), ("fashion-mnist", mnist::FASHION_MNIST.found())]
}

/// An image from three planes, `at(channel, x, y)` giving the bytes.
fn from_planes(side: u32, at: impl Fn(usize, usize, usize) -> u8) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        image::Rgb([0, 1, 2].map(|c| at(c, x as usize, y as usize)))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Read { path: path.into(), source })
}

pub(crate) fn format(path: &Path, reason: String) -> DataError {
    DataError::Format { path: path.into(), reason }
}
