#![doc = include_str!("../README.md")]

mod budget;
mod compress;
mod config;
mod distill;
mod information;
mod mimic;
mod mimic_config;
pub mod purpose;

pub use budget::Budget;
pub use compress::{Compress, similarity_loss};
pub use config::{CompressConfig, Control, Variant};
pub use distill::distill;
pub use mimic::{Mimic, attention_distance};
pub use mimic_config::{MimicConfig, mimic};

#[cfg(test)]
#[path = "../../ssl/src/golden/fixture.rs"]
mod fixture;
