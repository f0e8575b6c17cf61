//! Where a trigger goes on an image.

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Phase, Spot, TriggerError};
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_rng::ChaCha8Rng;

/// Where a patch goes; the fields `place` and `val_place` of [`PoisonConfig`](crate::PoisonConfig).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    /// Anywhere such that the whole patch lies between the fractions `min` and `max` of each side. A patch that is wider than
    /// these bounds starts at `min`; what leaves the image is cut off.
    Random {
        /// Lower bound, as a fraction of the side.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        min: f64,
        /// Upper bound, as a fraction of the side; above `min`.
        #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
        max: f64,
    },
    /// In the middle.
    Center {},
    /// Copies on a square grid: n × n of them, centred at 1/(n + 1) to n/(n + 1) of each side. Nine copies are the
    /// `multiple` mode of the reference code.
    Grid {
        /// Number of copies. Range: 1, 4, 9, 16 or 25. Default: 9.
        #[serde(default = "nine", skip_serializing_if = "is_nine")]
        #[schemars(range(min = 1, max = 25))]
        copies: u32,
    },
    /// Flush with a corner.
    Corner {
        /// The corner.
        which: Corner,
    },
}

/// A corner of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Corner {
    /// Top left.
    TopLeft,
    /// Top right.
    TopRight,
    /// Bottom left.
    BottomLeft,
    /// Bottom right.
    BottomRight,
}

/// The numbers of copies that a grid may have.
const COPIES: [u32; 5] = [1, 4, 9, 16, 25];

fn nine() -> u32 {
    9
}

fn is_nine(copies: &u32) -> bool {
    *copies == 9
}

impl Place {
    /// The paper's training bounds, the central half.
    pub const TRAIN: Place = Place::Random { min: 0.25, max: 0.75 };
    /// The paper's validation bounds.
    pub const VAL: Place = Place::Random { min: 0.10, max: 0.90 };
    /// The reference's nine copies.
    pub const GRID: Place = Place::Grid { copies: 9 };

    /// The paper's bounds for images of `phase`.
    pub fn of_paper(phase: Phase) -> Place {
        match phase {
            Phase::Training => Self::TRAIN,
            Phase::Evaluation => Self::VAL,
        }
    }

    /// Checks bounds and copies; `field` names the placement in the error.
    ///
    /// # Errors
    /// [`TriggerError::Bounds`] unless 0 ≤ min < max ≤ 1, [`TriggerError::Range`] for a number of copies that no grid has.
    pub fn check(&self, field: &str) -> Result<(), TriggerError> {
        match *self {
            Self::Random { min, max }
                if !((0.0..1.0).contains(&min) && min < max && max <= 1.0) =>
            {
                Err(TriggerError::Bounds { field: field.into(), min, max })
            }
            Self::Grid { copies } if !COPIES.contains(&copies) => {
                let allowed = "allowed are 1, 4, 9, 16 and 25";
                Err(OutOfRange::new(format!("{field}.copies"), copies, allowed).into())
            }
            _ => Ok(()),
        }
    }

    /// The boxes for a `patch` (width, height) on an image of `size` (width, height): one, or those of a grid row by
    /// row.
    ///
    /// If random bounds are too narrow for the patch, it starts at the lower bound and may extend beyond the edge, as
    /// in the reference; [`stamp`](crate::stamp) clips it.
    pub fn spots(&self, size: (u32, u32), patch: (u32, u32), rng: &mut ChaCha8Rng) -> Vec<Spot> {
        let spot = |x, y| Spot { x, y, width: patch.0, height: patch.1 };
        let middle = |side: u32, patch: u32| side.saturating_sub(patch) / 2;
        let end = |side: u32, patch: u32| side.saturating_sub(patch);
        match *self {
            Self::Random { min, max } => {
                let mut along = |side: u32, patch: u32| {
                    let low = (f64::from(side) * min) as i64;
                    let high = (f64::from(side) * max - f64::from(patch)) as i64;
                    rng.random_range(low..=high.max(low)) as u32
                };
                let x = along(size.0, patch.0);
                vec![spot(x, along(size.1, patch.1))]
            }
            Self::Center {} => vec![spot(middle(size.0, patch.0), middle(size.1, patch.1))],
            Self::Grid { copies } => {
                let n = copies.isqrt();
                // A corner left of or above the image is clamped to its edge.
                let at = |side: u32, patch: u32, i: u32| {
                    let centre = (f64::from(side) * f64::from(i) / f64::from(n + 1)).trunc();
                    (centre - f64::from(patch) / 2.0).max(0.0) as u32
                };
                let along = |side: u32, patch: u32| (1..=n).map(move |i| at(side, patch, i));
                let rows = along(size.1, patch.1);
                rows.flat_map(|y| along(size.0, patch.0).map(move |x| spot(x, y))).collect()
            }
            Self::Corner { which } => {
                let (right, bottom) = match which {
                    Corner::TopLeft => (false, false),
                    Corner::TopRight => (true, false),
                    Corner::BottomLeft => (false, true),
                    Corner::BottomRight => (true, true),
                };
                let x = if right { end(size.0, patch.0) } else { 0 };
                vec![spot(x, if bottom { end(size.1, patch.1) } else { 0 })]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;
    use ssl_backdoor_rng::keyed;

    fn spots(place: Place, size: (u32, u32), patch: (u32, u32), id: u64) -> Vec<(u32, u32)> {
        let mut rng = keyed(1, purpose::VAL_SPOT, 0, id, 0);
        place.spots(size, patch, &mut rng).iter().map(|s| (s.x, s.y)).collect()
    }

    #[test]
    fn both_ends_of_the_bounds_are_reached_and_never_passed() {
        // Protocol 1.2: a 50 px patch on a 224 px validation image starts at 22 to 151.
        let (mut low, mut high) = (u32::MAX, 0);
        for id in 0..5000 {
            let (x, y) = spots(Place::VAL, (224, 224), (50, 50), id)[0];
            low = low.min(x.min(y));
            high = high.max(x.max(y));
        }
        assert_eq!((low, high), (22, 151));
    }

    #[test]
    fn a_patch_too_wide_for_its_bounds_starts_at_the_lower_one() {
        assert_eq!(spots(Place::TRAIN, (32, 32), (20, 20), 0), [(8, 8)]);
    }

    #[test]
    fn fixed_places_by_hand() {
        assert_eq!(spots(Place::Center {}, (101, 60), (50, 21), 0), [(25, 19)]);
        let corner = |which| spots(Place::Corner { which }, (101, 60), (50, 21), 0)[0];
        assert_eq!(corner(Corner::TopLeft), (0, 0));
        assert_eq!(corner(Corner::TopRight), (51, 0));
        assert_eq!(corner(Corner::BottomLeft), (0, 39));
        assert_eq!(corner(Corner::BottomRight), (51, 39));
        // Protocol 1.2: centres at int(0.25, 0.5, 0.75 of the side), corners at int(centre - w / 2).
        let nine = spots(Place::GRID, (101, 60), (51, 20), 0);
        let columns = [0, 24, 49];
        let rows = [5, 20, 35];
        let expected: Vec<_> = rows.iter().flat_map(|&y| columns.map(|x| (x, y))).collect();
        assert_eq!(nine, expected);
        // One copy in the middle; four at a third and two thirds of each side.
        let grid = |copies| spots(Place::Grid { copies }, (96, 60), (10, 20), 0);
        assert_eq!(grid(1), [(43, 20)]);
        assert_eq!(grid(4), [(27, 10), (59, 10), (27, 30), (59, 30)]);
        assert_eq!((grid(16).len(), grid(25).len()), (16, 25));
        // A patch larger than its image starts at the image's corner.
        assert_eq!(spots(Place::Center {}, (10, 10), (20, 20), 0), [(0, 0)]);
    }

    #[test]
    fn a_grid_says_its_copies_unless_they_are_nine() {
        for (text, place) in [
            ("kind = \"grid\"\n", Place::GRID),
            ("kind = \"grid\"\ncopies = 4\n", Place::Grid { copies: 4 }),
        ] {
            assert_eq!(toml::from_str::<Place>(text).unwrap(), place);
            assert_eq!(toml::to_string(&place).unwrap(), text);
        }
    }

    #[test]
    fn bounds_are_checked() {
        for (min, max) in [(0.5, 0.5), (-0.1, 0.5), (0.2, 1.1), (f64::NAN, 0.5)] {
            assert!(Place::Random { min, max }.check("place").is_err(), "{min} {max}");
        }
        assert!(Place::Random { min: 0.0, max: 1.0 }.check("place").is_ok());
        assert!(Place::GRID.check("place").is_ok());
        for copies in [0, 2, 3, 8, 36] {
            let error = Place::Grid { copies }.check("val_place").unwrap_err().to_string();
            assert!(error.starts_with(&format!("val_place.copies = {copies} ")), "{error}");
        }
    }
}
