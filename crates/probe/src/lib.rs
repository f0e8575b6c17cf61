#![doc = include_str!("../README.md")]

mod config;
mod confusion;
mod error;
mod feature_map;
mod features;
mod fine_tune;
mod flow;
#[cfg(test)]
mod golden;
mod knn;
mod linear;
mod paper;
pub mod purpose;
mod scores;
mod statistics;

pub use config::{Labels, ProbeConfig, ProbeKind, Protocol};
pub use confusion::{Confusion, reference_csv};
pub use error::ProbeError;
pub use feature_map::{feature_map, target_neighbour_share};
pub use features::{Features, evaluation_filter, extract, extract_by, extract_normalized};
pub use fine_tune::{FineTuneConfig, FineTuneOptimizer, FineTuned};
pub use flow::{FEWEST_LOST, Flow};
pub use knn::{Vote, check_neighbours, knn};
pub use linear::LinearProbe;
pub use paper::{Labelled, PaperProbe, PaperProbeConfig};
pub use scores::{Paired, Scores};
pub use statistics::{
    Alternative, Destinations, Equivalence, RocArea, SignFlip, Targeting, Trend, bootstrap,
    equivalence, holm, mcnemar, paired_difference, roc_area, sign_flip, slope_over, student,
    targeting, trend, upper_bound, wilson,
};
