//! The statistics that turn runs into claims: intervals and tests over images, pairs and shares.
//!
//! Everything here is a pure function of slices of `f64`. If a result cannot be computed (too few values, values that
//! are not finite), it is `None`, never a panic. Tests that enumerate all resamples are exact. If there are too many,
//! resamples are drawn by key, so the same values and seed always give the same p-value.

mod bootstrap;
mod equivalence;
#[cfg(test)]
mod golden;
mod holm;
mod mean;
#[cfg(test)]
mod properties;
mod proportion;
mod resampling;
mod roc;
mod sign_flip;
mod targeting;
mod trend;

pub use bootstrap::bootstrap;
pub use equivalence::{Equivalence, equivalence};
pub use holm::holm;
pub use mean::{student, upper_bound};
pub use proportion::{mcnemar, paired_difference, wilson};
pub use roc::{RocArea, roc_area};
pub use sign_flip::{Alternative, SignFlip, sign_flip};
pub use targeting::{Destinations, Targeting, targeting};
pub use trend::{Trend, slope_over, trend};
