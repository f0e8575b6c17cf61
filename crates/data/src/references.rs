//! The images of the target class, for perturbations that use them.

use image::{GrayImage, RgbImage};
use ssl_backdoor_trigger::{References, TriggerError};

use crate::sets::shapes::Outlines;
use crate::{SampleSet, Split};

/// The unprepared images of one class of a split, read on access.
pub(crate) struct OfClass {
    set: SampleSet,
    /// Ids, ascending, and the position of each image.
    ids: Vec<u64>,
    positions: Vec<usize>,
    outlines: Option<Outlines>,
}

impl OfClass {
    /// The images of `class`, with their `outlines` if the set knows them.
    pub fn new(split: &Split, class: u32, outlines: Option<Outlines>) -> Self {
        let labels = split.labels.iter().enumerate();
        let mut all: Vec<(u64, usize)> = labels
            .filter(|(_, (_, label))| *label == class)
            .map(|(position, (id, _))| (*id, position))
            .collect();
        all.sort_unstable();
        let (ids, positions) = all.into_iter().unzip();
        Self { set: split.set.clone(), ids, positions, outlines }
    }
}

impl std::fmt::Debug for OfClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} images", self.ids.len())
    }
}

impl References for OfClass {
    fn ids(&self) -> &[u64] {
        &self.ids
    }

    fn get(&self, id: u64) -> Result<RgbImage, TriggerError> {
        let wrong = |reason| TriggerError::Reference { id, reason };
        let at = self.ids.binary_search(&id);
        let at = at.map_err(|_| wrong("no image of the target class".into()))?;
        let sample = self.set.get(self.positions[at]).map_err(|e| wrong(e.to_string()))?;
        Ok(sample.image)
    }

    fn mask(&self, id: u64) -> Result<GrayImage, TriggerError> {
        let wrong = |reason: &str| TriggerError::Reference { id, reason: reason.into() };
        self.ids.binary_search(&id).map_err(|_| wrong("no image of the target class"))?;
        let outlines =
            self.outlines.ok_or_else(|| wrong("the outline of its object is unknown"))?;
        Ok(outlines.of(id))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{InMemory, Sample};

    #[test]
    fn images_of_the_class_are_found_by_their_ids() {
        let image = |id: u64| RgbImage::from_pixel(1, 1, image::Rgb([id as u8; 3]));
        let labels = vec![(9, 1), (4, 0), (7, 1), (2, 1)];
        let samples = labels.iter().map(|&(id, label)| Sample::new(id, image(id), label));
        let set: SampleSet = Arc::new(InMemory::new(samples.collect()));
        let split = Split { set, labels, files: None };
        let references = OfClass::new(&split, 1, None);
        assert_eq!(references.ids(), [2, 7, 9]);
        assert!(references.ids().iter().all(|&id| references.get(id).unwrap() == image(id)));
        assert!(references.get(4).unwrap_err().to_string().contains("reference 4"));
        assert!(references.mask(2).unwrap_err().to_string().contains("outline"));
        let outlines = Some(Outlines { size: 16, seed: 1 });
        let drawn = OfClass::new(&split, 1, outlines);
        assert_eq!(drawn.mask(2).unwrap().dimensions(), (16, 16));
        assert!(drawn.mask(4).unwrap_err().to_string().contains("no image of the target class"));
    }
}
