//! Prepares images for a network: as in a run, or for an external encoder with its own size, interpolation, mean and
//! standard deviation.

use std::sync::Arc;

use burn_dataset::Dataset;
use image::RgbImage;

use crate::augment::{
    Filter, MEAN, STD, central, resize_center_crop, resize_square, resize_whole_by, resized,
    shorter_side,
};
use crate::{DataError, Sample, SampleSet};

/// How the evaluation images of a run become squares of one size, with bilinear interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preparation {
    /// Side of the prepared images.
    pub size: u32,
    /// Whether the whole image is resized, as in sets of square images, instead of Resize and CenterCrop.
    pub whole: bool,
}

impl Preparation {
    /// Prepares one image. An image that already has this size is unchanged.
    pub fn image(self, image: RgbImage) -> RgbImage {
        let prepare = if self.whole { resize_square } else { resize_center_crop };
        prepare(image, self.size)
    }

    /// The images of `set`, prepared on access.
    pub fn of(self, set: SampleSet) -> SampleSet {
        Arc::new(Prepared { inner: set, how: self })
    }
}

struct Prepared {
    inner: SampleSet,
    how: Preparation,
}

impl Dataset<Sample, DataError> for Prepared {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let mut sample = self.inner.get(index)?;
        sample.image = self.how.image(sample.image);
        Ok(sample)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}

/// Mean and standard deviation by channel of values in 0 to 1; by default ImageNet's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Subtracted from each channel.
    pub mean: [f32; 3],
    /// Divisor of each channel.
    pub std: [f32; 3],
}

impl Default for Normalization {
    fn default() -> Self {
        Self { mean: MEAN, std: STD }
    }
}

/// The images of `set` as squares of `size` pixels, resized with `filter` as PIL does it. Square images of the set
/// are resized as a whole if `whole`; all others have their shorter side resized to 256/224 of `size` and their
/// centre cut out (Resize and CenterCrop).
pub fn resized_set(set: SampleSet, size: u32, filter: Filter, whole: bool) -> SampleSet {
    Arc::new(Resized { inner: set, size, filter, whole })
}

struct Resized {
    inner: SampleSet,
    size: u32,
    filter: Filter,
    whole: bool,
}

impl Dataset<Sample, DataError> for Resized {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let mut sample = self.inner.get(index)?;
        sample.image = resize(sample.image, self.size, self.filter, self.whole);
        Ok(sample)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}

fn resize(image: RgbImage, size: u32, filter: Filter, whole: bool) -> RgbImage {
    let (width, height) = image.dimensions();
    if (width, height) == (size, size) {
        return image;
    }
    if whole && width == height {
        return resize_whole_by(&image, (size, size), filter);
    }
    // Resize the whole image before the crop: a cubic reads pixels past the edge of the crop.
    let (width, height) = resized((width, height), shorter_side(size));
    let all = resize_whole_by(&image, (width, height), filter);
    let [x, y] = central([width, height], size);
    image::imageops::crop_imm(&all, x, y, size, size).to_image()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_image;
    use std::path::Path;

    /// Against PIL (`tests/fixtures/preparation.py`): photographs that shrink and grow, wide and high, both filters.
    #[test]
    fn field_f12_resizing_is_pils_within_a_level() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/preparation");
        let read = |name: &str| read_image(&folder.join(name), false).unwrap();
        let mut compared = 0;
        for (input, sizes) in [("wide", [24, 48]), ("high", [24, 48]), ("square", [24, 48])] {
            for size in sizes {
                for (name, filter) in [("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)]
                {
                    for whole in [false, true] {
                        if whole && input != "square" {
                            continue;
                        }
                        let kind = if whole { "whole" } else { "centre" };
                        let expected = read(&format!("{input}-{kind}-{name}-{size}.png"));
                        let found = resize(read(&format!("{input}.png")), size, filter, whole);
                        assert_eq!(found.dimensions(), expected.dimensions());
                        let differences = found
                            .as_raw()
                            .iter()
                            .zip(expected.as_raw())
                            .map(|(a, b)| a.abs_diff(*b));
                        let most = differences.max().unwrap();
                        assert!(most <= 1, "{input} {kind} {name} {size}: {most}");
                        compared += 1;
                    }
                }
            }
        }
        assert_eq!(compared, 16);
    }
}
