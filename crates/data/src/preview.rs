//! The size of a trigger and its visibility in views, measured on a sample before training.

use rayon::prelude::*;

use burn_dataset::Dataset;
use ssl_backdoor_trigger::{Footprint, Poison};

use crate::augment::{Geometry, Scratch, ViewKey, Views};
use crate::purpose;
use crate::{DataError, Sample, TriggerVisibility};

/// Size and visibility of a trigger on a sample of images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preview {
    /// Visibility of the trigger in the views.
    pub visibility: TriggerVisibility,
    /// Images of the sample that have the trigger.
    pub images: usize,
    /// Sum over the images of the trigger's width as a share of the shorter side; 0 for one on the whole image.
    widths: f64,
}

impl Preview {
    /// Measures the samples at `positions` of `set`, each in `epochs` epochs of `views` drawn from `seed`: the views
    /// that training will see. Images without a trigger are ignored.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn of(
        set: &dyn Dataset<Sample, DataError>,
        positions: &[usize],
        views: &dyn Views,
        seed: u64,
        epochs: u32,
    ) -> Result<Self, DataError> {
        let blank = |view| vec![0.0; 3 * (views.size_of(view) as usize).pow(2)];
        let pairs = views.pairs();
        let one = |scratch: &mut Scratch, &position: &usize| {
            let Sample { id, image, trigger, .. } = set.get(position)?;
            let mut found = Self::default();
            if trigger.is_empty() {
                return Ok(found);
            }
            found.images = 1;
            found.widths = relative_width(&image, &trigger);
            let boxes = trigger.boxes(image.dimensions());
            let mut planes: Vec<Vec<f32>> = (0..views.count()).map(blank).collect();
            let mut geometry = vec![Geometry::default(); views.count()];
            for epoch in 0..epochs {
                let key = ViewKey { seed, purpose: purpose::VIEW, epoch, id };
                let mut out: Vec<&mut [f32]> = planes.iter_mut().map(Vec::as_mut_slice).collect();
                views.write(&image, &key, scratch, &mut out, &mut geometry);
                let hidden = views.hidden(&key);
                found.visibility.add(&boxes, &geometry, &pairs, hidden.as_deref());
            }
            Ok(found)
        };
        let all: Result<Vec<Self>, DataError> =
            positions.par_iter().map_init(Scratch::default, one).collect();
        // Summed in order, so that the figures do not depend on the number of threads.
        Ok(all?.into_iter().fold(Self::default(), |mut sum, one| {
            sum.images += one.images;
            sum.widths += one.widths;
            sum.visibility.merge(&one.visibility);
            sum
        }))
    }

    /// Mean width of the trigger's first box as a share of the image's shorter side, 0 to 1. It has no meaning for a
    /// trigger on the whole image.
    pub fn mean_width(&self) -> f64 {
        self.widths / self.images.max(1) as f64
    }
}

/// Width of the trigger's first box as a share of the shorter side of `image`; 0 for one on the whole image.
fn relative_width(image: &image::RgbImage, trigger: &Footprint) -> f64 {
    let shorter = image.width().min(image.height()).max(1);
    match trigger {
        Footprint::Boxes(boxes) => {
            boxes.first().map_or(0.0, |spot| f64::from(spot.width) / f64::from(shorter))
        }
        Footprint::Whole => 0.0,
    }
}

/// The mean [`Poison::psnr`] in dB over the clean images at `positions` of `set`. `None` if no image is changed
/// without changing its size.
///
/// # Errors
/// An image cannot be read or perturbed.
pub fn mean_psnr(
    set: &dyn Dataset<Sample, DataError>,
    positions: &[usize],
    poison: &Poison,
) -> Result<Option<f64>, DataError> {
    let one = |&position: &usize| {
        let Sample { id, image, .. } = set.get(position)?;
        Ok(poison.psnr(id, &image)?)
    };
    let all: Result<Vec<Option<f64>>, DataError> = positions.par_iter().map(one).collect();
    let found: Vec<f64> = all?.into_iter().flatten().collect();
    Ok((!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InMemory;
    use crate::augment::ChainViews;
    use ssl_backdoor_trigger::Spot;

    #[test]
    fn field_f07_the_sample_tells_the_size_on_images_and_in_views() {
        let sample = |id: u64, boxes: Vec<Spot>| Sample {
            trigger: Footprint::Boxes(boxes),
            ..Sample::new(id, image::RgbImage::new(60, 40), 0)
        };
        let spot = Spot { x: 26, y: 16, width: 8, height: 8 };
        let set =
            InMemory::new(vec![sample(0, vec![spot]), sample(1, vec![]), sample(2, vec![spot])]);
        // Crops of the whole image.
        let views = ChainViews::moco(16, (0.999, 1.0), false);
        let of = |positions: &[usize]| Preview::of(&set, positions, &views, 1, 3).unwrap();
        let found = of(&[0, 1, 2]);
        assert_eq!((found.images, found.mean_width()), (2, 0.2));
        assert_eq!(found.visibility.by_views, [0, 0, 6]);
        let covered = found.visibility.mean_covered();
        assert!((0.02..0.06).contains(&covered), "{covered}");
        assert_eq!(found, of(&[0, 1, 2]));
        assert!(of(&[1]).visibility.is_empty() && of(&[1]).mean_width() == 0.0);
    }
}
