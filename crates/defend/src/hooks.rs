//! The hook of a defence at test time.

use std::sync::Arc;

use ssl_backdoor_data::{DataError, Dataset, Sample, SampleSet};

/// Changes an image before the encoder of a trained model sees it: evaluation images, and the labelled images that
/// its probe learns from.
pub trait ImageHook: Send + Sync {
    /// The image that the encoder sees instead of `sample`, of the same size. The hook may use only the pixels: it
    /// must not know whether the image carries a trigger.
    ///
    /// # Errors
    /// The hook cannot read something that it needs.
    fn map(&self, sample: Sample) -> Result<Sample, DataError>;
}

/// A set of images as seen through a hook.
pub struct Hooked {
    inner: SampleSet,
    hook: Arc<dyn ImageHook>,
}

impl Hooked {
    /// Shows the images of `inner` through `hook`.
    pub fn new(inner: SampleSet, hook: Arc<dyn ImageHook>) -> Self {
        Self { inner, hook }
    }
}

impl Dataset<Sample, DataError> for Hooked {
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        self.hook.map(self.inner.get(index)?)
    }

    fn len(&self) -> usize {
        self.inner.len()
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};
    use ssl_backdoor_data::InMemory;

    use super::*;

    struct Invert;

    impl ImageHook for Invert {
        fn map(&self, mut sample: Sample) -> Result<Sample, DataError> {
            sample.image.pixels_mut().for_each(|Rgb(pixel)| *pixel = pixel.map(|v| 255 - v));
            Ok(sample)
        }
    }

    #[test]
    fn a_hooked_set_shows_every_image_through_the_hook() {
        let sample = |id: u64| {
            Sample::new(id, RgbImage::from_pixel(2, 2, Rgb([id as u8, 0, 255])), id as u32)
        };
        let inner: SampleSet = Arc::new(InMemory::new((0..3).map(sample).collect()));
        let set = Hooked::new(inner, Arc::new(Invert));
        assert_eq!(set.len(), 3);
        let shown = set.get(2).unwrap();
        assert_eq!((shown.id, shown.label), (2, 2));
        assert_eq!(shown.image.get_pixel(1, 1), &Rgb([253, 255, 0]));
    }
}
