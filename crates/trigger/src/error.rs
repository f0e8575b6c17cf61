//! Errors of triggers, placements, plans and ledgers.

use std::path::PathBuf;

use ssl_backdoor_fields::OutOfRange;

/// An error of this crate: it names the field or file, the value, and what is allowed. Fields are those of
/// [`PoisonConfig`](crate::PoisonConfig).
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// The paper has ten triggers, numbered as in Hidden Trigger Backdoor Attacks.
    #[error("trigger.id = {id} is not an HTBA trigger: allowed are 10 to 19")]
    UnknownHtba {
        /// The id that was asked for.
        id: u32,
    },
    /// A value that is out of range or contradicts another.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// Not exactly one of the keys for the amount of poison is set.
    #[error("needs exactly one of rate, dataset_rate, count and list: {found}")]
    Amount {
        /// What was found.
        found: String,
    },
    /// Bounds of a random placement that are not part of an image.
    #[error("{field} has min = {min}, max = {max}: allowed is 0 <= min < max <= 1")]
    Bounds {
        /// The field of the placement.
        field: String,
        /// Lower bound, a fraction of the side.
        min: f64,
        /// Upper bound, a fraction of the side.
        max: f64,
    },
    /// The target class does not exist.
    #[error("target = {target} does not exist: {allowed}")]
    Target {
        /// The class that was asked for.
        target: String,
        /// What there is.
        allowed: String,
    },
    /// A trigger's picture or font cannot be read.
    #[error("{field}: {}: {reason}", path.display())]
    Picture {
        /// `trigger.path` or `trigger.font`.
        field: &'static str,
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
    /// A reference image that a poisoned image cannot be composed with.
    #[error("reference {id}: {reason}")]
    Reference {
        /// Its id.
        id: u64,
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
    /// A field of patches beside a trigger of another kind.
    #[error("{field}: a trigger of this kind is not pasted; all its fields are in trigger")]
    NotPasted {
        /// The field.
        field: &'static str,
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
    /// The same, about the value of another `field`.
    pub(crate) fn of(self, field: &str) -> Self {
        match self {
            Self::Range(range) => Self::Range(range.of(field)),
            other => other,
        }
    }

    /// The field of [`PoisonConfig`](crate::PoisonConfig) that this is about, with which the message begins: with dots
    /// between the structs that lead to it, empty for the config as a whole. None if it is about something else.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::UnknownHtba { .. } => Some("trigger.id"),
            Self::Range(range) => Some(&range.field),
            Self::Amount { .. } => Some(""),
            Self::Bounds { field, .. } => Some(field),
            Self::Target { .. } => Some("target"),
            Self::Picture { field, .. } | Self::NotPasted { field } => Some(field),
            Self::Image { .. }
            | Self::Reference { .. }
            | Self::Column { .. }
            | Self::Ledger { .. } => None,
        }
    }

    /// The same, about the image that `name` names.
    pub fn at(self, name: impl FnOnce() -> String) -> Self {
        match self {
            Self::Image { reason, .. } => Self::Image { image: name(), reason },
            Self::Reference { .. } => Self::Image { image: name(), reason: self.to_string() },
            other => other,
        }
    }
}
