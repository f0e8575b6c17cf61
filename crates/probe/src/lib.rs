//! How good an encoder is, and how backdoored: features extracted once, a linear probe on a small
//! clean labelled subset, and accuracy, false positives (FP) and attack success rate (ASR) with
//! 95 % intervals.
//!
//! ```
//! use ssl_backdoor_probe::Scores;
//!
//! // Truth, predictions, and the target class: one of three non-target images is called target.
//! let scores = Scores::of(&[0, 1, 1, 2], &[0, 0, 1, 2], Some(0));
//! assert_eq!((scores.acc, scores.fp), (75.0, Some(1)));
//! ```

mod config;
mod confusion;
mod error;
mod feature_map;
mod features;
#[cfg(test)]
mod golden;
mod interval;
mod knn;
mod linear;
mod paper;
mod scores;

pub use config::{Labels, ProbeConfig, ProbeKind, Protocol};
pub use confusion::{Confusion, reference_csv};
pub use error::ProbeError;
pub use feature_map::{feature_map, gathered};
pub use features::{Features, extract, extract_by};
pub use interval::{mcnemar, paired_difference, student, wilson};
pub use knn::{Vote, knn};
pub use linear::LinearProbe;
pub use paper::{Labelled, PaperProbe, Rules};
pub use scores::{Paired, Scores};
