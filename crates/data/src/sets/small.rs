//! A set that fits in memory: images are kept at their stored size and resized on access, or resized once at the
//! start if that takes little more memory.

use std::sync::Arc;

use burn_dataset::Dataset;
use image::RgbImage;
use rayon::prelude::*;

use crate::augment::resize_square;
use crate::halves::{Order, halves};
use crate::purpose;
use crate::{DataError, InMemory, Sample, SampleSet, Split, subset};

/// Ids of test images start here, so that no id names two images.
const TEST_IDS: u64 = 1 << 32;
/// Resized images may take this many bytes even if the stored ones take less.
const RESIZED_BYTES: usize = 256 << 20;

/// Images of a small set at their stored size.
pub(crate) struct Part {
    /// The images, all of one size.
    pub images: Vec<RgbImage>,
    /// Their labels, in the same order.
    pub labels: Vec<u32>,
}

impl Part {
    /// Takes the images at `positions` out, with ids from `first_id`.
    fn take(&mut self, positions: &[usize], first_id: u64) -> Vec<Sample> {
        let sample = |&i: &usize| {
            let image = std::mem::take(&mut self.images[i]);
            Sample::new(first_id + i as u64, image, self.labels[i])
        };
        positions.iter().map(sample).collect()
    }
}

/// Images in memory.
pub(crate) struct Held {
    /// The images as squares of the requested size.
    pub split: Split,
    /// Hash of ids, labels and pixels, in hexadecimal. If images are resized on access, it covers the stored images
    /// and the size.
    pub hash: String,
}

impl Held {
    /// `samples` as squares of `size` pixels: resized at once if that takes little more memory, else on access.
    pub fn new(samples: Vec<Sample>, size: u32) -> Self {
        let labels = samples.iter().map(|sample| (sample.id, sample.label)).collect();
        let stored = samples.iter().map(|sample| sample.image.as_raw().len()).sum();
        let (set, hash): (SampleSet, _) = if resized_at_once(samples.len(), stored, size) {
            let samples: Vec<Sample> =
                samples.into_par_iter().map(|sample| square(sample, size)).collect();
            let hash = hash(&samples).finalize();
            (Arc::new(InMemory::new(samples)), hash)
        } else {
            let hash = hash(&samples).update(&size.to_le_bytes()).finalize();
            (Arc::new(Squares { inner: InMemory::new(samples), size }), hash)
        };
        Self { split: Split { set, labels, files: None }, hash: hash.to_hex().to_string() }
    }
}

/// Training, dev and test images of a small set as squares of `size` pixels. `per_class` keeps a seeded sample of the
/// labelled training images; dev is the first half of the test images, test the second.
pub(crate) fn splits(
    [mut train, mut test]: [Part; 2],
    classes: u32,
    size: u32,
    per_class: Option<u32>,
    seed: u64,
) -> [Held; 3] {
    let labels =
        |part: &Part| -> Vec<(u64, u32)> { (0..).zip(part.labels.iter().copied()).collect() };
    let kept: Vec<usize> = match per_class {
        None => (0..train.labels.len()).collect(),
        Some(n) => {
            let count = |of: usize| (n as usize).min(of);
            let ids = subset::per_class(&labels(&train), classes, seed, purpose::PER_CLASS, count);
            ids.into_iter().map(|id| id as usize).collect()
        }
    };
    let [dev_half, test_half] = halves(&labels(&test), Order::Stored);
    [
        Held::new(train.take(&kept, 0), size),
        Held::new(test.take(&dev_half, TEST_IDS), size),
        Held::new(test.take(&test_half, TEST_IDS), size),
    ]
}

fn hash(samples: &[Sample]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    for sample in samples {
        hasher.update(&sample.id.to_le_bytes());
        hasher.update(&sample.label.to_le_bytes());
        hasher.update(sample.image.as_raw());
    }
    hasher
}

/// Whether `count` images that take `stored` bytes are resized at the start.
fn resized_at_once(count: usize, stored: usize, size: u32) -> bool {
    count.saturating_mul(3 * size as usize * size as usize) <= stored.max(RESIZED_BYTES)
}

/// Images of another size, resized on access.
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
    sample.image = resize_square(sample.image, size);
    sample
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::{Filter, resize_whole_by};

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
    fn a_seeded_sample_keeps_ids_and_labels() {
        let [train, dev, test] = splits([part(12, 9), part(5, 9)], 3, 20, Some(2), 5);
        let classes: Vec<u32> = train.split.labels.iter().map(|(_, class)| *class).collect();
        assert_eq!(classes, [0, 0, 1, 1, 2, 2]);
        let ids = |held: &Held| -> Vec<u64> {
            held.split.labels.iter().map(|(id, _)| id - TEST_IDS).collect()
        };
        assert_eq!((ids(&dev), ids(&test)), (vec![0, 1, 2], vec![3, 4]));
        let stored = part(12, 9);
        for (i, (id, label)) in train.split.labels.iter().enumerate() {
            let sample = train.split.set.get(i).unwrap();
            assert_eq!((&sample.id, &sample.label), (id, label));
            assert_eq!(
                sample.image,
                resize_whole_by(&stored.images[*id as usize], (20, 20), Filter::Bilinear)
            );
        }
    }

    #[test]
    fn images_are_the_same_whether_they_are_resized_at_once_or_one_by_one() {
        // 3 · 1024² bytes an image: 100 of them exceed the limit, 10 do not.
        let all: Vec<usize> = (0..100).collect();
        let held = |count: usize, size| Held::new(part(100, 3).take(&all[..count], 7), size);
        let (one_by_one, at_once) = (held(100, 1024), held(10, 1024));
        for i in [0, 9] {
            let (one, other) =
                (one_by_one.split.set.get(i).unwrap(), at_once.split.set.get(i).unwrap());
            assert_eq!(one, other);
            assert_eq!((one.id, one.image.dimensions()), (7 + i as u64, (1024, 1024)));
        }
        // Both kinds of hash depend on the size.
        assert_ne!(one_by_one.hash, held(100, 1023).hash);
        assert_ne!(at_once.hash, held(10, 1023).hash);
        assert_ne!(held(10, 3).hash, held(9, 3).hash);
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
