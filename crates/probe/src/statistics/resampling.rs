//! Shared parts of the resampling methods: random draws by key, ties and p-values.

use ssl_backdoor_rng::{ChaCha8Rng, keyed};

use crate::purpose;

/// Statistics that differ by less than this share of their scale count as equal. They are sums of rounded differences
/// such as 96.4 − 95.9, so arrangements that are equal on paper differ in their last digits.
pub(super) const TIE: f64 = 1e-10;

/// The kind of draw. The number is part of the key: never renumber.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(super) enum Draw {
    /// Signs of the sign-flip test.
    Signs = 0,
    /// Units of a bootstrap sample.
    Units = 1,
    /// The order of the targets in the test of targeting.
    Targets = 2,
}

/// The random number generator of a method.
pub(super) fn draws(seed: u64, draw: Draw) -> ChaCha8Rng {
    keyed(seed, purpose::RESAMPLING, 0, draw as u64, 0)
}

/// How many of all or of some resamples are at least as extreme as the observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Count {
    pub extreme: usize,
    pub resamples: usize,
    /// Whether these are all possible resamples.
    pub exact: bool,
}

impl Count {
    /// The p-value: the share of all resamples, or (b + 1) / (m + 1) for b of m drawn ones, which counts the
    /// observation as one of them and so is never 0 (Phipson and Smyth, Statistical Applications in Genetics and
    /// Molecular Biology 9, 2010).
    pub(super) fn p(self) -> f64 {
        let observed = usize::from(!self.exact);
        (self.extreme + observed) as f64 / (self.resamples + observed) as f64
    }
}
