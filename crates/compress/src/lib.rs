//! CompReSS distillation, the paper's defence: a student learns from a small *clean* unlabelled set
//! to reproduce the backdoored teacher's similarities, and what the teacher knows of the trigger is
//! never asked for.

mod compress;
mod config;

pub use compress::{Compress, Variant, similarity_loss};
pub use config::{CompressConfig, Control, DefendConfig, distill};

#[cfg(test)]
#[path = "../../ssl/src/golden/fixture.rs"]
mod fixture;
