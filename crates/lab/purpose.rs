//! The random draws of this crate, by key. Every result depends on the numbers, so they never change.

use ssl_backdoor_rng::Purpose;

/// The choice of the images that a feature map shows.
pub const FEATURE_MAP: Purpose = Purpose::new(18);
