//! The images of the target class that a composition may use.

use std::sync::{Arc, OnceLock};

use ssl_backdoor_rng::{ChaCha8Rng, keyed, ranked};

use crate::{Key, References, TriggerError, purpose};

/// The random number generator for the composition of an image, separate from that of its trigger.
pub(crate) fn chance(key: &Key) -> ChaCha8Rng {
    keyed(key.seed, purpose::COMPOSITION, 0, key.id, 0)
}

/// A seeded sample of the images of the target class.
#[derive(Debug)]
pub(crate) struct Sampled {
    pub images: Arc<dyn References>,
    /// Size of the sample; `None` for all images.
    count: Option<usize>,
    /// The seed of the first sample, and all ids in the order of their ranks.
    drawn: OnceLock<(u64, Arc<[u64]>)>,
}

impl Sampled {
    pub fn new(images: Arc<dyn References>, count: Option<usize>) -> Self {
        Self { images, count, drawn: OnceLock::new() }
    }

    /// All ids in the order of their ranks under `seed`. The sample is the first [`size`](Self::size) of them.
    pub fn ranked(&self, seed: u64) -> Arc<[u64]> {
        let rank = || Arc::from(ranked(self.images.ids(), seed, purpose::REFERENCES, 0));
        let (drawn, ids) = self.drawn.get_or_init(|| (seed, rank()));
        if *drawn == seed { ids.clone() } else { rank() }
    }

    /// Number of images in the sample.
    ///
    /// # Errors
    /// [`TriggerError::Image`] if the target class has no image.
    pub fn size(&self) -> Result<usize, TriggerError> {
        match self.images.ids().len().min(self.count.unwrap_or(usize::MAX)) {
            0 => {
                let reason = "there is no image of the target class for the composition".into();
                Err(TriggerError::Image { image: "an image".into(), reason })
            }
            size => Ok(size),
        }
    }
}
