#![doc = include_str!("../README.md")]

mod config;
mod confusion;
mod error;
mod feature_map;
mod features;
mod flow;
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
pub use features::{Features, extract, extract_by, extract_normalized};
pub use flow::{FEWEST_LOST, Flow};
pub use interval::{mcnemar, paired_difference, student, wilson};
pub use knn::{Vote, check_neighbours, knn};
pub use linear::LinearProbe;
pub use paper::{Labelled, PaperProbe, Rules};
pub use scores::{Paired, Scores};
