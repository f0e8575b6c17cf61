//! The random draws of this crate. The numbers are part of every result and never change.

use ssl_backdoor_rng::Purpose;

/// Initial weights of a network.
pub const INIT: Purpose = Purpose::new(10);

/// Initial rows of the key queue.
pub const QUEUE: Purpose = Purpose::new(11);
