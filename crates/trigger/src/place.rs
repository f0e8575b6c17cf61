//! Where a trigger goes on an image.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::TriggerError;
use crate::chance::ChaCha8Rng;

/// How the place of the trigger is chosen; the `poison.place` and `poison.val_place` tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    /// Anywhere such that the *whole patch* lies between the fractions `min` and `max` of each
    /// side, both ends included (the reference's `random` mode).
    Random {
        /// Lower bound as a fraction of the side, 0 to 1.
        min: f64,
        /// Upper bound as a fraction of the side, above `min`.
        max: f64,
    },
}

impl Place {
    /// The paper's training bounds, the central half.
    pub const TRAIN: Place = Place::Random { min: 0.25, max: 0.75 };
    /// The paper's validation bounds.
    pub const VAL: Place = Place::Random { min: 0.10, max: 0.90 };

    /// Checks the bounds; `key` names them in the error.
    ///
    /// # Errors
    /// [`TriggerError::Bounds`] unless 0 ≤ min < max ≤ 1.
    pub fn check(&self, key: &str) -> Result<(), TriggerError> {
        let Self::Random { min, max } = *self;
        if (0.0..1.0).contains(&min) && min < max && max <= 1.0 {
            Ok(())
        } else {
            Err(TriggerError::Bounds { key: key.into(), min, max })
        }
    }

    /// The corner for a `patch` (width, height) on an image of `size` (width, height).
    ///
    /// Where the bounds are too narrow for the patch it starts at the lower bound and may run off
    /// the edge, as in the reference; [`stamp`](crate::stamp) clips it.
    pub fn spot(&self, size: (u32, u32), patch: (u32, u32), rng: &mut ChaCha8Rng) -> Spot {
        let Self::Random { min, max } = *self;
        let mut along = |side: u32, patch: u32| {
            let low = (f64::from(side) * min) as i64;
            let high = (f64::from(side) * max - f64::from(patch)) as i64;
            rng.random_range(low..=high.max(low)) as u32
        };
        let x = along(size.0, patch.0);
        let y = along(size.1, patch.1);
        Spot { x, y, width: patch.0, height: patch.1 }
    }
}

/// The box of a trigger on an image, in pixels from the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::{self, Purpose};

    #[test]
    fn both_ends_of_the_bounds_are_reached_and_never_passed() {
        // Protocol 1.2: a 50 px patch on a 224 px validation image starts at 22 to 151.
        let (mut low, mut high) = (u32::MAX, 0);
        for id in 0..5000 {
            let mut rng = chance::rng(1, Purpose::ValSpot, 0, id, 0);
            let spot = Place::VAL.spot((224, 224), (50, 50), &mut rng);
            low = low.min(spot.x.min(spot.y));
            high = high.max(spot.x.max(spot.y));
        }
        assert_eq!((low, high), (22, 151));
    }

    #[test]
    fn a_patch_too_wide_for_its_bounds_starts_at_the_lower_one() {
        let mut rng = chance::rng(1, Purpose::TrainSpot, 0, 0, 0);
        let spot = Place::TRAIN.spot((32, 32), (20, 20), &mut rng);
        assert_eq!((spot.x, spot.y), (8, 8));
    }

    #[test]
    fn bounds_are_checked() {
        for (min, max) in [(0.5, 0.5), (-0.1, 0.5), (0.2, 1.1), (f64::NAN, 0.5)] {
            assert!(Place::Random { min, max }.check("poison.place").is_err(), "{min} {max}");
        }
        assert!(Place::Random { min: 0.0, max: 1.0 }.check("poison.place").is_ok());
    }
}
