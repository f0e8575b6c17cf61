//! What this crate draws by keyed chance. The numbers are part of every result: they never change.

use ssl_backdoor_rng::Purpose;

/// The order of the images, and the pairs that do not belong together, in an epoch of an estimate of mutual information.
pub const INFORMATION: Purpose = Purpose::new(41);
