//! The random draws of this crate, by key. The numbers are part of every result and never change.

use ssl_backdoor_rng::Purpose;

/// Box, size of the box and partners of i-CutMix, by step and view.
pub const CUTMIX: Purpose = Purpose::new(40);
