//! The random draws of this crate. The numbers are part of every result and never change.

use ssl_backdoor_rng::Purpose;

/// A drawn image of the `shapes` data set.
pub const DRAW: Purpose = Purpose::new(5);

/// Which training images a smaller `per_class` keeps.
pub const PER_CLASS: Purpose = Purpose::new(6);

/// Which training images carry labels for the probe.
pub const LABELS: Purpose = Purpose::new(7);

/// The order of the training images in an epoch.
pub const ORDER: Purpose = Purpose::new(8);

/// One augmented view of one image.
pub const VIEW: Purpose = Purpose::new(9);

/// The clean images a defender keeps.
pub const CLEAN_PART: Purpose = Purpose::new(15);

/// Which evaluation images are `dev` and which `test`, if the data set does not specify it.
pub const HALVES: Purpose = Purpose::new(16);

/// One augmented view of one labelled image, for a probe.
pub const PROBE_VIEW: Purpose = Purpose::new(19);

/// One augmented view of one image in the defender's training.
pub const STUDENT_VIEW: Purpose = Purpose::new(20);

/// The order of the images in an epoch of the defender's training.
pub const STUDENT_ORDER: Purpose = Purpose::new(21);
