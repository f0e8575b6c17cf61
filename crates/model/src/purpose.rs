//! What this crate draws at random, by key. The numbers are part of every result: they never change.

use ssl_backdoor_rng::Purpose;

/// Initial weights of a network.
pub const INIT: Purpose = Purpose::new(10);

/// Initial rows of the key queue.
pub const QUEUE: Purpose = Purpose::new(11);
