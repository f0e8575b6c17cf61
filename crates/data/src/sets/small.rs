//! A set that fits in memory: its images are held as they lie in the files and resized when they are asked for. Only
//! where that takes little more memory are they resized once, at the start.

use std::sync::Arc;

use burn_dataset::Dataset;
use image::RgbImage;
use rayon::prelude::*;
use ssl_backdoor_trigger::chance::Purpose;

use crate::augment::resize_whole;
use crate::{DataError, InMemory, Sample, SampleSet, Split, subset};

/// Ids of test images start here, so that no id names two images.
const TEST_IDS: u64 = 1 << 32;
/// Resized images may take so many bytes where the stored ones take less.
const RESIZED_BYTES: usize = 256 << 20;
/// Images that are resized at a time for the hash.
const CHUNK: usize = 256;

/// Images of a small set as they lie in its files.
pub(crate) struct Part {
    /// The images, all of one size.
    pub images: Vec<RgbImage>,
    /// As many labels.
    pub labels: Vec<u32>,
}

impl Part {
    /// The images at `positions` as squares of `size` pixels, with ids from `first_id`.
    fn split(mut self, positions: &[usize], first_id: u64, size: u32) -> Split {
        let sample = |&i: &usize| {
            let image = std::mem::take(&mut self.images[i]);
            Sample::new(first_id + i as u64, image, self.labels[i])
        };
        let samples: Vec<Sample> = positions.iter().map(sample).collect();
        let labels = samples.iter().map(|sample| (sample.id, sample.label)).collect();
        Split { set: squares(samples, size), labels, files: None }
    }
}

/// Training and test images of a small set as squares of `size` pixels. `per_class` keeps a seeded sample of the
/// labelled training images.
pub(crate) fn splits(
    [train, test]: [Part; 2],
    classes: u32,
    size: u32,
    per_class: Option<u32>,
    seed: u64,
) -> [Split; 2] {
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
    let all: Vec<usize> = (0..test.labels.len()).collect();
    [train.split(&kept, 0, size), test.split(&all, TEST_IDS, size)]
}

/// Hash of ids, labels and pixels of some sets, one after the other. Never more than a few images are held for it.
///
/// # Errors
/// Whatever reading an image gives.
pub(crate) fn hash(sets: &[&SampleSet]) -> Result<blake3::Hasher, DataError> {
    let mut hasher = blake3::Hasher::new();
    for set in sets {
        for first in (0..set.len()).step_by(CHUNK) {
            let some = first..set.len().min(first + CHUNK);
            let samples: Result<Vec<Sample>, DataError> =
                some.into_par_iter().map(|i| set.get(i)).collect();
            for sample in samples? {
                hasher.update(&sample.id.to_le_bytes());
                hasher.update(&sample.label.to_le_bytes());
                hasher.update(sample.image.as_raw());
            }
        }
    }
    Ok(hasher)
}

/// The samples as squares of `size` pixels: resized at once if that takes little more memory, else one by one.
fn squares(samples: Vec<Sample>, size: u32) -> SampleSet {
    let stored = samples.iter().map(|sample| sample.image.as_raw().len()).sum();
    if !resized_at_once(samples.len(), stored, size) {
        return Arc::new(Squares { inner: InMemory::new(samples), size });
    }
    let samples = samples.into_par_iter().map(|sample| square(sample, size)).collect();
    Arc::new(InMemory::new(samples))
}

/// Are `count` images that take `stored` bytes resized at the start?
fn resized_at_once(count: usize, stored: usize, size: u32) -> bool {
    count.saturating_mul(3 * size as usize * size as usize) <= stored.max(RESIZED_BYTES)
}

/// Images of another size, resized when they are asked for.
struct Squares {
    inner: InMemory,
    size: u32,
}

impl Dataset<Sample, DataError> for Squares {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        Ok(square(self.inner.get(index)?, self.size))
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}

fn square(mut sample: Sample, size: u32) -> Sample {
    if sample.image.dimensions() != (size, size) {
        sample.image = resize_whole(&sample.image, (size, size));
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(count: u32, side: u32) -> Part {
        let image = |i: u32| {
            RgbImage::from_fn(side, side, |x, y| {
                image::Rgb([x * 9, y * 7, i * 31].map(|v| v as u8))
            })
        };
        Part {
            images: (0..count).map(image).collect(),
            labels: (0..count).map(|i| i % 3).collect(),
        }
    }

    #[test]
    fn images_are_the_same_whether_they_are_resized_at_once_or_one_by_one() {
        let parts = || [part(12, 9), part(4, 9)];
        let [train, test] = splits(parts(), 3, 20, Some(2), 5);
        assert_eq!(
            train.labels.iter().map(|(_, class)| *class).collect::<Vec<_>>(),
            [0, 0, 1, 1, 2, 2]
        );
        assert_eq!(test.labels[1], (TEST_IDS + 1, 1));
        let [stored, _] = parts();
        for (i, (id, label)) in train.labels.iter().enumerate() {
            let sample = train.set.get(i).unwrap();
            assert_eq!((&sample.id, &sample.label), (id, label));
            assert_eq!(sample.image, resize_whole(&stored.images[*id as usize], (20, 20)));
        }
        let samples: Vec<Sample> = (0..6).map(|i| train.set.get(i).unwrap()).collect();
        let stored = stored.images.iter().zip(0..);
        let stored = stored.map(|(image, id)| Sample::new(id, image.clone(), 0)).collect();
        let lazy = Squares { inner: InMemory::new(stored), size: 20 };
        for sample in samples {
            assert_eq!(lazy.get(sample.id as usize).unwrap().image, sample.image);
        }
    }

    /// The hash of all images at once, as it was when all of them were held.
    #[test]
    fn the_hash_is_that_of_all_images_in_their_order() {
        let [train, test] = splits([part(CHUNK as u32 + 3, 9), part(5, 9)], 3, 8, None, 0);
        let mut hasher = blake3::Hasher::new();
        for split in [&train, &test] {
            for i in 0..split.labels.len() {
                let Sample { id, label, image, .. } = split.set.get(i).unwrap();
                hasher.update(
                    &[&id.to_le_bytes()[..], &label.to_le_bytes(), image.as_raw()].concat(),
                );
            }
        }
        assert_eq!(hash(&[&train.set, &test.set]).unwrap().finalize(), hasher.finalize());
    }

    #[test]
    fn large_sets_are_not_held_at_a_larger_size() {
        let at_once =
            |count: usize, side: usize, size| resized_at_once(count, count * 3 * side * side, size);
        // CIFAR-10 as it is and at 224 px, Fashion-MNIST at 32 px, all of STL-10 as it is, smaller and larger.
        assert!(at_once(50_000, 32, 32) && !at_once(50_000, 32, 224) && at_once(60_000, 28, 32));
        assert!(at_once(105_000, 96, 96) && at_once(105_000, 96, 32) && !at_once(105_000, 96, 97));
    }
}
