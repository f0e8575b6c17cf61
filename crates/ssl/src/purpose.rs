//! The random draws of this crate. The numbers are part of every result and never change.

use ssl_backdoor_rng::Purpose;

/// The permutation of a key batch (shuffling BN).
pub const SHUFFLE: Purpose = Purpose::new(12);

/// The rows that the centres of DeepCluster v2's clusterings start at.
pub const CLUSTERS: Purpose = Purpose::new(50);

/// Which of Jigsaw's permutations there are (the search), and which one an image gets.
pub const PERMUTATION: Purpose = Purpose::new(17);
