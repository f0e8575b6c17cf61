//! What this crate draws at random, by key. The numbers are part of every result: they never change.

use ssl_backdoor_rng::Purpose;

/// Which images a feature map shows.
pub const FEATURE_MAP: Purpose = Purpose::new(18);
