#![doc = include_str!("../README.md")]

mod compress;
mod config;

pub use compress::{Compress, Variant, similarity_loss};
pub use config::{CompressConfig, Control, DefendConfig, distill};

#[cfg(test)]
#[path = "../../ssl/src/golden/fixture.rs"]
mod fixture;
