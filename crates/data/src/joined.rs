//! Several sets as one.

use burn_dataset::Dataset;

use crate::{DataError, Sample, SampleSet};

/// Several sets one after the other.
pub struct Joined(pub Vec<SampleSet>);

impl Dataset<Sample, DataError> for Joined {
    fn get(&self, mut index: usize) -> Result<Sample, DataError> {
        for set in &self.0 {
            if index < set.len() {
                return set.get(index);
            }
            index -= set.len();
        }
        unreachable!("an index below the length of the whole")
    }

    fn len(&self) -> usize {
        self.0.iter().map(|set| set.len()).sum()
    }
}
