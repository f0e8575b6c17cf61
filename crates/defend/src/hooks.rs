//! What a defence does at test time.

use std::sync::Arc;

use ssl_backdoor_data::{DataError, Dataset, Sample, SampleSet};

/// Acts on an image before the encoder sees it, once the model is trained: on evaluation images, and on the labelled images
/// that its probe learns from.
pub trait ImageHook: Send + Sync {
    /// The image that the encoder sees instead of `sample`, of the same size. It may use only the pixels: whether
    /// the image carries a trigger is not for it to know.
    ///
    /// # Errors
    /// Whatever the hook needs and cannot read.
    fn map(&self, sample: Sample) -> Result<Sample, DataError>;
}

/// A set as a hook shows it.
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
