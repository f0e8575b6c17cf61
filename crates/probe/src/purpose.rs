//! The random draws of this crate, by key. Every result depends on the numbers, so they never change.

use ssl_backdoor_rng::Purpose;

/// Initial weights of the probe.
pub const PROBE_INIT: Purpose = Purpose::new(13);

/// Batch order of the probe.
pub const PROBE_ORDER: Purpose = Purpose::new(14);

/// The labelled images used by a probe that needs full batches (BYOL's).
pub const PROBE_SAMPLE: Purpose = Purpose::new(22);

/// The order of labelled images that are equally near to an evaluation image.
pub const NEIGHBOURS: Purpose = Purpose::new(23);

/// The resamples of a test or an interval over runs: signs, bootstrap samples, permutations.
pub const RESAMPLING: Purpose = Purpose::new(24);
