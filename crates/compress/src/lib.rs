#![doc = include_str!("../README.md")]

mod budget;
mod compress;
mod config;
mod distill;

pub use budget::Budget;
pub use compress::{Compress, similarity_loss};
pub use config::{CompressConfig, Control, Variant};
pub use distill::distill;

#[cfg(test)]
#[path = "../../ssl/src/golden/fixture.rs"]
mod fixture;
