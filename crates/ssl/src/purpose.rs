//! The purposes of the random draws in this crate. The numbers affect every result and never change.

use ssl_backdoor_rng::Purpose;

/// The permutation of a key batch (shuffling BN).
pub const SHUFFLE: Purpose = Purpose::new(12);

/// The rows at which the centres of DeepCluster v2's clusterings start.
pub const CLUSTERS: Purpose = Purpose::new(50);

/// The search for Jigsaw's permutations, and the choice of one for each image.
pub const PERMUTATION: Purpose = Purpose::new(17);
