//! Errors that can stop a training.

use std::path::PathBuf;

use ssl_backdoor_data::DataError;
use ssl_backdoor_fields::OutOfRange;
use ssl_backdoor_model::ModelError;

/// The error of an observer: of any type, because callers write their own observers.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// What to do when a canary has stopped a training.
const STOPPED: &str = ". Earlier checkpoints, if there are any, are kept; with `canaries = \"warn\"` in the table of this \
                       training it would have continued";

/// An error of this crate. Field names are those of [`PretrainConfig`](crate::PretrainConfig): `lr`, `method.queue`,
/// `encoder.width`.
#[derive(Debug, thiserror::Error)]
pub enum PretrainError {
    /// A field of the config has a value out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// A config gives the learning rate twice.
    #[error(
        "lr = {lr} and base_lr = {base} exclude each other: \
         base_lr means lr = base_lr * batch / 256"
    )]
    TwoRates {
        /// The rate itself.
        lr: f64,
        /// The rate for a batch of 256 images.
        base: f64,
    },
    /// A method needs a different number of views than its [`Views`](ssl_backdoor_data::augment::Views) produce.
    #[error("the method needs {wanted} views of each image, but its views give {found}")]
    ViewCount {
        /// The number that the method needs.
        wanted: usize,
        /// The number in the batch.
        found: usize,
    },
    /// A hook or a caller asks for something that does not apply to this method.
    #[error("{what} does not apply to the method: it needs {needs}")]
    NotApplicable {
        /// The requested feature.
        what: &'static str,
        /// The property that it requires of the method.
        needs: &'static str,
    },
    /// The loss is not finite.
    #[error(
        "the loss is {loss} at step {step} (epoch {epoch}, learning rate {lr}), but must be finite. \
         Lower the learning rate. Earlier checkpoints, if there are any, are kept"
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
    /// The observer interrupted the training.
    #[error(
        "interrupted after step {step} of {steps}; {}",
        match (*step, *kept) {
            (_, false) => "nothing is kept: the same command starts from the beginning",
            (0, true) => "nothing was trained yet: run the same command again to resume",
            (_, true) => "a checkpoint is saved: run the same command again to resume",
        }
    )]
    Interrupted {
        /// Whether the observer [keeps checkpoints](crate::TrainObserver::keeps_checkpoints).
        kept: bool,
        /// Steps done.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// A canary failed: the training does not do what it should.
    #[error(
        "canary `{canary}` at step {step} (epoch {epoch}): {diagnosis}{}",
        if *stops { STOPPED } else { "" }
    )]
    Canary {
        /// Name of the canary.
        canary: &'static str,
        /// The step, from 0.
        step: usize,
        /// The epoch, from 0.
        epoch: usize,
        /// What is wrong.
        diagnosis: String,
        /// Whether it stops the training, and is no warning.
        stops: bool,
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
    /// The network's file could not be written or read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An observer failed with an error that is not one of this crate.
    #[error("{when}")]
    Observer {
        /// When it failed: `after epoch 3`.
        when: String,
        /// The cause. The message does not include it, so print the chain of sources.
        source: ObserverError,
    },
}

impl PretrainError {
    /// Converts an error from a check of the config's encoder; its field gets the prefix `encoder`.
    pub fn of_encoder(error: ModelError) -> Self {
        match error {
            ModelError::Range(range) => range.within("encoder").into(),
            other => other.into(),
        }
    }

    /// The field of [`PretrainConfig`](crate::PretrainConfig) that the error is about; the message begins with it.
    /// `None` if the error is about something else, such as a field of the [data set](Self::Data).
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Range(range) => Some(&range.field),
            Self::TwoRates { .. } => Some("lr"),
            _ => None,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }

    /// Converts an observer's error: one of this crate is returned as is, any other with `when` it occurred.
    pub(crate) fn observed(when: impl Into<String>, source: ObserverError) -> Self {
        match source.downcast::<Self>() {
            Ok(own) => *own,
            Err(source) => Self::Observer { when: when.into(), source },
        }
    }
}
