//! The random draws of this crate. The numbers are part of every result and never change.

use ssl_backdoor_rng::Purpose;

/// Which images are poisoned.
pub const PLAN: Purpose = Purpose::new(1);

/// Where the trigger goes on a training image.
pub const TRAIN_SPOT: Purpose = Purpose::new(2);

/// Where the trigger goes on a validation image.
pub const VAL_SPOT: Purpose = Purpose::new(3);

/// The colours of a trigger made from a seed.
pub const TRIGGER_COLORS: Purpose = Purpose::new(4);

/// How a poisoned training image is composed with an image of the target class.
pub const COMPOSITION: Purpose = Purpose::new(31);

/// Which images of the target class serve as references.
pub const REFERENCES: Purpose = Purpose::new(32);

/// The initial centres of the clusters by which images are chosen.
pub const CLUSTERS: Purpose = Purpose::new(33);

/// The colours of a blended pattern.
pub const PATTERN: Purpose = Purpose::new(30);
