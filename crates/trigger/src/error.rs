//! What can be wrong with a trigger, a placement, a plan or a ledger.

use std::path::PathBuf;

/// An error of this crate: it names the key or file, the value, and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// The paper has ten triggers, numbered as in Hidden Trigger Backdoor Attacks.
    #[error("poison.trigger.id = {id} is not an HTBA trigger: allowed are 10 to 19")]
    UnknownHtba {
        /// The id that was asked for.
        id: u32,
    },
    /// A trigger of width 0, or wider than any image we handle.
    #[error("poison.trigger.width = {width} is out of range: allowed are 1 to {max} pixels")]
    Width {
        /// The width that was asked for.
        width: u32,
        /// The largest width that is allowed.
        max: u32,
    },
    /// Bounds of a random placement that are no part of an image.
    #[error("{key} has min = {min}, max = {max}: allowed is 0 <= min < max <= 1")]
    Bounds {
        /// The key in the config.
        key: String,
        /// Lower bound, a fraction of the side.
        min: f64,
        /// Upper bound, a fraction of the side.
        max: f64,
    },
    /// A poison rate that is no fraction.
    #[error("poison.rate = {rate} is out of range: allowed is 0 < rate <= 1 (of the target class)")]
    Rate {
        /// The rate that was asked for.
        rate: f64,
    },
    /// The target class does not exist.
    #[error("poison.target = {target} does not exist: the data set has {classes} classes, allowed are 0 to {}", classes - 1)]
    Target {
        /// The class that was asked for.
        target: u32,
        /// How many classes there are.
        classes: u32,
    },
    /// A rate so small that no image would be poisoned.
    #[error("poison.rate = {rate} of {of} images of class {target} poisons no image: raise it to at least {}", 1.0 / *of as f64)]
    NothingPoisoned {
        /// The rate that was asked for.
        rate: f64,
        /// Images of the target class.
        of: usize,
        /// The target class.
        target: u32,
    },
    /// The ledger could not be written or read.
    #[error("{}: {reason}", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}
