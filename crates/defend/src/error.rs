//! Errors of defences.

use ssl_backdoor_data::DataError;
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_model::ModelError;
use ssl_backdoor_scan::ScanError;
use ssl_backdoor_ssl::PretrainError;

/// An error of this crate. Fields are those of the config of one defence.
#[derive(Debug, thiserror::Error)]
pub enum DefendError {
    /// A field of the config has a value out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// A field has a value that is not possible with this data, with the other fields, or for this kind of defence.
    #[error("{field} = {value}: {reason}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
    /// A training cannot run with the victim's config and the defence's config together.
    #[error("{field}: {what}: {cause}")]
    Training {
        /// The field of the defence that requests the training.
        field: &'static str,
        /// Which training it is.
        what: &'static str,
        /// Why it cannot run; a part of the message, so it is not the `Error::source`.
        cause: Box<PretrainError>,
    },
    /// Two defences of a run make models with the same name.
    #[error("two defences make a model with the name {model}: names must be different")]
    Twice {
        /// The name.
        model: String,
    },
    /// A model is made from the encoder of another one, and no file of that encoder was given.
    #[error("{model} is made from a trained encoder, whose file does not exist")]
    Start {
        /// The model to be made.
        model: String,
    },
    /// A training failed. If it names a field, it is one of the victim's config.
    #[error(transparent)]
    Pretrain(#[from] PretrainError),
    /// Images could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The training images could not be searched.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// An encoder file could not be read.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl DefendError {
    /// The field of the defence's config that the error is about; the message begins with it. `None` if the error is
    /// about something else, such as a field of the [victim's config](Self::Pretrain).
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Range(range) => Some(&range.field),
            Self::Value { field, .. } | Self::Training { field, .. } => Some(field),
            Self::Scan(error) => error.field(),
            _ => None,
        }
    }
}
