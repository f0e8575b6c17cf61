//! The random draws of this crate. The numbers are part of every result and never change.

use ssl_backdoor_rng::Purpose;

/// The order of the images, and the pairs that do not belong together, in an epoch of an estimate of mutual information.
pub const INFORMATION: Purpose = Purpose::new(41);
