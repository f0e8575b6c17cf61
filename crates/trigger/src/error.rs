//! Errors of triggers, placements, plans and ledgers.

use std::path::PathBuf;

use ssl_backdoor_fields::OutOfRange;

/// An error of this crate: it names the field or file, the value, and what is allowed. Fields are those of
/// [`PoisonConfig`](crate::PoisonConfig).
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// The id is not one of the paper's ten triggers, numbered as in Hidden Trigger Backdoor Attacks.
    #[error("trigger.id = {id} is not an HTBA trigger: allowed are 10 to 19")]
    UnknownHtba {
        /// The requested id.
        id: u32,
    },
    /// A value that is out of range or contradicts another.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// Not exactly one of the keys for the amount of poison is set.
    #[error("needs exactly one of rate, dataset_rate, count and list: {found}")]
    Amount {
        /// How many of them are set, in words.
        found: String,
    },
    /// The bounds of a random placement are not an interval within the image.
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
        /// The requested class.
        target: String,
        /// The classes that exist.
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
    /// A reference image that cannot be composed into a poisoned image.
    #[error("reference {id}: {reason}")]
    Reference {
        /// Its id.
        id: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A column of a ledger row has a value that the perturbation cannot use.
    #[error("column {column} has {value}: expected {expected}")]
    Column {
        /// The column.
        column: &'static str,
        /// The value that was found.
        value: String,
        /// The expected value.
        expected: &'static str,
    },
    /// A field for patches is set, but the trigger is not a patch.
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
    /// Changes the field of a range error to `field`; other errors stay as they are.
    pub(crate) fn of(self, field: &str) -> Self {
        match self {
            Self::Range(range) => Self::Range(range.of(field)),
            other => other,
        }
    }

    /// The field of [`PoisonConfig`](crate::PoisonConfig) that the error is about; the message begins with it. Nested
    /// names are joined by dots; empty for the config as a whole. `None` if the error is about something else.
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

    /// Names the image in an error about an image or a reference; other errors stay as they are.
    pub fn at(self, name: impl FnOnce() -> String) -> Self {
        match self {
            Self::Image { reason, .. } => Self::Image { image: name(), reason },
            Self::Reference { .. } => Self::Image { image: name(), reason: self.to_string() },
            other => other,
        }
    }
}
