//! The images of the target class that a composition may use.

use std::sync::{Arc, OnceLock};

use ssl_backdoor_rng::{ChaCha8Rng, keyed, ranked};

use crate::{Key, References, TriggerError, purpose};

/// The chance of the composition of an image: apart from that of its trigger.
pub(crate) fn chance(key: &Key) -> ChaCha8Rng {
    keyed(key.seed, purpose::COMPOSITION, 0, key.id, 0)
}

/// A seeded sample of the images of the target class.
#[derive(Debug)]
pub(crate) struct Sampled {
    pub images: Arc<dyn References>,
    /// How many; none = all.
    count: Option<usize>,
    /// The seed of the first sample that was drawn, and all ids in the order of their ranks.
    drawn: OnceLock<(u64, Arc<[u64]>)>,
}

impl Sampled {
    pub fn new(images: Arc<dyn References>, count: Option<usize>) -> Self {
        Self { images, count, drawn: OnceLock::new() }
    }

    /// All ids in the order of their ranks.
    pub fn ranked(&self, seed: u64) -> Arc<[u64]> {
        let rank = || Arc::from(ranked(self.images.ids(), seed, purpose::REFERENCES, 0));
        let (drawn, ids) = self.drawn.get_or_init(|| (seed, rank()));
        if *drawn == seed { ids.clone() } else { rank() }
    }

    /// How many of them are in the sample.
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
