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
    /// A value that is out of range or contradicts another.
    #[error("{key} = {value} is out of range: {allowed}")]
    Range {
        /// The key in the config.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Not exactly one of the ways to say how much is poisoned.
    #[error("poison needs exactly one of rate, dataset_rate, count and list: {found}")]
    Amount {
        /// What was found.
        found: String,
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
    /// The target class does not exist.
    #[error("poison.target = {target} does not exist: {allowed}")]
    Target {
        /// The class that was asked for.
        target: String,
        /// What there is.
        allowed: String,
    },
    /// A trigger's picture or font cannot be read.
    #[error("poison.trigger.{key}: {}: {reason}", path.display())]
    Picture {
        /// `path` or `font`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// An image that cannot be perturbed.
    #[error("{image}: {reason}")]
    Image {
        /// Its file, or its id.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A column of a ledger's row has a value that its perturbation cannot use.
    #[error("column {column} has {value}: expected {expected}")]
    Column {
        /// The column.
        column: &'static str,
        /// What was found.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A key of patches beside a trigger of another kind.
    #[error("{key}: a trigger of this kind is not pasted, allowed are the keys of poison.trigger")]
    NotPasted {
        /// The key in the config.
        key: &'static str,
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

impl TriggerError {
    /// The same, about the value of another `key`.
    pub(crate) fn of(self, key: &'static str) -> Self {
        match self {
            Self::Range { value, allowed, .. } => Self::Range { key, value, allowed },
            other => other,
        }
    }

    /// The same, about the image that `name` names.
    pub fn at(self, name: impl FnOnce() -> String) -> Self {
        match self {
            Self::Image { reason, .. } => Self::Image { image: name(), reason },
            other => other,
        }
    }
}
