//! The defender's images: a stratified sample of clean originals, some of which may be replaced by poisoned images.

use std::sync::Arc;

use ssl_backdoor_data::purpose;
use ssl_backdoor_data::{Joined, SampleSet, Subset, clean_part_ids};
use ssl_backdoor_rng::ranked;

use crate::{DefendError, Images, Victim};

/// The part of the training set that the defender holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CleanPart {
    /// Share of each class.
    pub share: f64,
    /// Share of the part that is replaced by poisoned images.
    pub poisoned: f64,
}

impl CleanPart {
    /// Approximate size of the part of a set of `images` images; it may differ by up to one image per class.
    pub fn about(&self, images: usize) -> usize {
        (self.share * images as f64) as usize
    }

    /// The error that a part of `images` images is too small, because of `cause`.
    pub fn too_small(&self, images: usize, cause: impl std::fmt::Display) -> DefendError {
        DefendError::Value {
            field: "clean",
            value: self.share.to_string(),
            reason: format!("it is {images} images: {cause}"),
        }
    }

    /// The images that the defender trains on.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn images(&self, victim: &Victim<'_>, seed: u64) -> Result<Images, DefendError> {
        Ok(Images::Held { set: self.of(victim, seed)?, contaminated: self.poisoned > 0.0 })
    }

    /// Its images, chosen by `seed`.
    ///
    /// # Errors
    /// More poisoned images are requested than there are.
    pub fn of(&self, victim: &Victim<'_>, seed: u64) -> Result<SampleSet, DefendError> {
        let Victim { splits, train, poisoned, .. } = victim;
        let labels = &splits.train.labels;
        let ids = clean_part_ids(labels, splits.classes.len() as u32, self.share, seed);
        let clean = |ids: &[u64]| -> SampleSet {
            Arc::new(Subset::of_ids(splits.pretrain_set().clone(), labels, ids))
        };
        let count = (self.poisoned * ids.len() as f64).round() as usize;
        if count == 0 {
            return Ok(clean(&ids));
        }
        if count > poisoned.len() {
            return Err(DefendError::Value {
                field: "poisoned",
                value: self.poisoned.to_string(),
                reason: format!(
                    "it asks for {count} poisoned images: the attacker has {}",
                    poisoned.len()
                ),
            });
        }
        let bad = &ranked(poisoned, seed, purpose::CLEAN_PART, 1)[..count];
        let good: Vec<u64> = ids.iter().copied().filter(|id| !bad.contains(id)).collect();
        let good = ranked(&good, seed, purpose::CLEAN_PART, 2);
        let bad: SampleSet = Arc::new(Subset::of_ids(train.clone(), labels, bad));
        Ok(Arc::new(Joined(vec![clean(&good[..ids.len() - count]), bad])))
    }
}
