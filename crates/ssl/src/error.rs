//! What can stop a training.

use std::path::PathBuf;

use ssl_backdoor_data::DataError;
use ssl_backdoor_model::ModelError;

/// An error of what watches a training: any error, because observers are the caller's.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum PretrainError {
    /// A key of the config has a value out of range.
    #[error("{key} = {value} is out of range: {allowed}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A config gives the learning rate twice.
    #[error(
        "pretrain.lr = {lr} and pretrain.base_lr = {base} exclude each other: \
         base_lr stands for lr = base_lr * pretrain.batch / 256"
    )]
    TwoRates {
        /// The rate itself.
        lr: f64,
        /// The rate for a batch of 256 images.
        base: f64,
    },
    /// A method takes another number of views than its [`Views`](ssl_backdoor_data::augment::Views) make.
    #[error("the method takes {wanted} views of each image, but its views make {found}")]
    ViewCount {
        /// What the method takes.
        wanted: usize,
        /// What a batch holds.
        found: usize,
    },
    /// The loss is not a number any more.
    #[error(
        "the loss is {loss} at step {step} (epoch {epoch}, learning rate {lr}): it must be finite. \
         Lower pretrain.lr; the last checkpoint is kept"
    )]
    Loss {
        /// The loss.
        loss: f32,
        /// The step, from 0.
        step: usize,
        /// The epoch, from 0.
        epoch: usize,
        /// The learning rate of the step.
        lr: f64,
    },
    /// Somebody asked it to end.
    #[error(
        "interrupted after step {step} of {steps}; a checkpoint is saved: run the same again to go on"
    )]
    Interrupted {
        /// Steps done.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// A canary fell: the training is not what it should be.
    #[error(
        "canary `{canary}` at step {step} (epoch {epoch}): {diagnosis}. The last checkpoint is kept; \
         pretrain.canaries = \"warn\" goes on regardless"
    )]
    Canary {
        /// Its name.
        canary: &'static str,
        /// The step, from 0.
        step: usize,
        /// The epoch, from 0.
        epoch: usize,
        /// What is wrong.
        diagnosis: String,
    },
    /// A file of the run could not be written or read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Images could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The encoder's sizes are out of range, or do not fit the images.
    #[error("pretrain.encoder.{0}")]
    Encoder(ModelError),
    /// The network's file could not be written or read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An observer failed with an error that is not one of this crate.
    #[error("{when}")]
    Observer {
        /// When that was: `after epoch 3`.
        when: String,
        /// Why; not a part of the message, so print the chain of sources.
        source: ObserverError,
    },
}

impl PretrainError {
    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }

    /// An observer's error: one of this crate as it is, any other with `when` it came.
    pub(crate) fn observed(when: impl Into<String>, source: ObserverError) -> Self {
        match source.downcast::<Self>() {
            Ok(own) => *own,
            Err(source) => Self::Observer { when: when.into(), source },
        }
    }
}

/// [`PretrainError::Range`] unless `fits`.
pub(crate) fn require(
    fits: bool,
    key: &'static str,
    value: impl ToString,
    allowed: impl Into<String>,
) -> Result<(), PretrainError> {
    if fits {
        return Ok(());
    }
    Err(PretrainError::Range { key, value: value.to_string(), allowed: allowed.into() })
}
