#![doc = include_str!("../README.md")]

mod budget;
mod compress;
mod config;

pub use budget::Budget;
pub use compress::{Compress, Variant, similarity_loss};
pub use config::{CompressConfig, Control, distill};

#[cfg(test)]
#[path = "../../ssl/src/golden/fixture.rs"]
mod fixture;
