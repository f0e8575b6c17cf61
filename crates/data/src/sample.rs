//! One image with its label, and sets of them held in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn_dataset::Dataset;
use image::RgbImage;
use rayon::prelude::*;
use ssl_backdoor_trigger::Footprint;

use crate::{DataError, Watch};

/// The label of an unlabelled image: not a class, so the image is never drawn for a labelled subset.
pub const UNLABELLED: u32 = u32::MAX;

/// An image, its class and its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Identity within the data set, which keys all random draws.
    pub id: u64,
    /// The pixels, 8 bits per channel.
    pub image: RgbImage,
    /// Class, 0 to classes − 1, or [`UNLABELLED`]. Self-supervised training never uses it.
    pub label: u32,
    /// Where a trigger changed the image; empty on a clean image. Only figures of the attack use it.
    pub trigger: Footprint,
}

impl Sample {
    /// An image without a trigger.
    pub fn new(id: u64, image: RgbImage, label: u32) -> Self {
        Self { id, image, label, trigger: Footprint::default() }
    }
}

/// Any set of samples.
pub type SampleSet = Arc<dyn Dataset<Sample, DataError>>;

/// A small set held as bytes.
pub struct InMemory {
    samples: Vec<Sample>,
}

impl InMemory {
    /// Holds these samples in this order.
    pub fn new(samples: Vec<Sample>) -> Self {
        Self { samples }
    }

    /// Reads all of `set` on all cores, and reports progress to `watch`.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn read(set: &SampleSet, watch: &Watch<'_>) -> Result<Self, DataError> {
        let done = AtomicUsize::new(0);
        let one = |index: usize| {
            let sample = set.get(index)?;
            watch("reading images", done.fetch_add(1, Ordering::Relaxed) + 1, set.len());
            Ok(sample)
        };
        let samples: Result<Vec<Sample>, DataError> =
            (0..set.len()).into_par_iter().map(one).collect();
        Ok(Self::new(samples?))
    }
}

impl Dataset<Sample, DataError> for InMemory {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        DataError::at(&self.samples, index).cloned()
    }

    fn len(&self) -> usize {
        self.samples.len()
    }
}
