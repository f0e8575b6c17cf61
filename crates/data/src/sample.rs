//! One image with its label, and sets of them held in memory.

use std::sync::Arc;

use burn_dataset::Dataset;
use image::RgbImage;

use crate::DataError;

/// An image, its class and its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Identity within the data set: all chance is keyed by it.
    pub id: u64,
    /// The pixels, 8 bits a channel.
    pub image: RgbImage,
    /// Class, 0 to classes − 1. Self-supervised training never looks at it.
    pub label: u32,
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
}

impl Dataset<Sample, DataError> for InMemory {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        Ok(self.samples[index].clone())
    }

    fn len(&self) -> usize {
        self.samples.len()
    }
}
