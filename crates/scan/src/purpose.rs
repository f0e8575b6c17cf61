//! The random draws of this crate, by key. The numbers are part of every result and never change.

use ssl_backdoor_rng::Purpose;

/// The initial centres of k-means.
pub const CENTRES: Purpose = Purpose::new(60);

/// The order in which the images of a cluster are tried.
pub const QUEUE: Purpose = Purpose::new(61);

/// Where a candidate patch is pasted on other images.
pub const PASTE: Purpose = Purpose::new(62);

/// Initial weights of the networks that tell patched images from others.
pub const PATCH_NET: Purpose = Purpose::new(63);

/// Which images a step of their training has, and what is pasted on them.
pub const PATCH_STEP: Purpose = Purpose::new(64);

/// One augmented view of an image in their training.
pub const PATCH_VIEW: Purpose = Purpose::new(65);

/// Which images a scan shows to an encoder.
pub const SHADOWS: Purpose = Purpose::new(66);

/// The initial mask and pattern of a trigger inversion.
pub const TRIGGER_START: Purpose = Purpose::new(67);

/// The order of the images in an epoch of a trigger inversion.
pub const TRIGGER_ORDER: Purpose = Purpose::new(68);
