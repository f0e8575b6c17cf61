//! What can stop a defence.

use ssl_backdoor_data::DataError;
use ssl_backdoor_model::ModelError;
use ssl_backdoor_ssl::PretrainError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DefendError {
    /// A key of a defence's table has a value that it cannot have.
    #[error("{key} = {value}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
    /// A training cannot run as the tables `[pretrain]` and `[defend]` say together.
    #[error("{key}: {what}: {cause}")]
    Training {
        /// The key of the defence that asks for the training.
        key: &'static str,
        /// Which training it is.
        what: &'static str,
        /// Why it cannot run; a part of the message, so it is no `Error::source`.
        cause: Box<PretrainError>,
    },
    /// Two defences of a run make a model of the same name.
    #[error("defend: two defences make the model {model}: a run has one model of each name")]
    Twice {
        /// The name.
        model: String,
    },
    /// A model is made from another one's encoder, and no file of that was given.
    #[error("{model} is made from a trained encoder, and there is no file of it")]
    Start {
        /// The model that is to be made.
        model: String,
    },
    /// A training failed.
    #[error(transparent)]
    Pretrain(#[from] PretrainError),
    /// Images could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An encoder file could not be read.
    #[error(transparent)]
    Model(#[from] ModelError),
}
