//! What can stop a pretraining.

use std::path::PathBuf;

use ssl_backdoor_data::DataError;
use ssl_backdoor_model::ModelError;

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
    /// The loss is no number any more.
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
    /// What the caller does after each epoch failed.
    #[error("after epoch {epoch}")]
    OnEpoch {
        /// The epoch, from 0.
        epoch: usize,
        /// Why; not a part of the message, so print the chain of sources.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl PretrainError {
    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }
}
