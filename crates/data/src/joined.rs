//! Several sets as one.

use burn_dataset::Dataset;

use crate::{DataError, Sample, SampleSet};

/// Several sets one after the other.
pub struct Joined(pub Vec<SampleSet>);

impl Dataset<Sample, DataError> for Joined {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let mut inside = index;
        for set in &self.0 {
            if inside < set.len() {
                return set.get(inside);
            }
            inside -= set.len();
        }
        Err(DataError::Position { position: index, len: self.len() })
    }

    fn len(&self) -> usize {
        self.0.iter().map(|set| set.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InMemory;
    use image::RgbImage;
    use std::sync::Arc;

    #[test]
    fn positions_go_on_from_set_to_set_and_end_with_the_last() {
        let set = |ids: std::ops::Range<u64>| -> SampleSet {
            let sample = |id| Sample::new(id, RgbImage::new(1, 1), 0);
            Arc::new(InMemory::new(ids.map(sample).collect()))
        };
        let both = Joined(vec![set(0..2), set(2..2), set(2..5)]);
        let ids: Vec<u64> = (0..both.len()).map(|i| both.get(i).unwrap().id).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4]);
        for (set, index) in [(&both as &dyn Dataset<Sample, DataError>, 5), (&*both.0[0], 2)] {
            let error = set.get(index).err().unwrap().to_string();
            assert_eq!(error, format!("position {index} is not in a set of {index} images"));
        }
    }
}
