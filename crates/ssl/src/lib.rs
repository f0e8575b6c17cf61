#![doc = include_str!("../README.md")]

mod byol;
mod canary;
mod checkpoint;
mod error;
mod jigsaw;
mod learning_rate;
mod mae;
mod method;
mod metrics;
mod moco;
mod msf;
mod optimizer;
mod permutations;
mod pretrain;
mod projector;
mod rotnet;
mod schedule;
mod sgd;
mod simclr;
mod train;
mod whole;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

pub use byol::{Byol, ByolConfig};
pub use canary::{CanaryMode, Ema, Hook};
pub use error::PretrainError;
pub use jigsaw::{Jigsaw, JigsawConfig};
pub use learning_rate::LearningRate;
pub use mae::{Mae, MaeConfig};
pub use method::{Batch, Defaults, Method, MethodConfig, Progress, Settings, Step, WithMethod};
pub use moco::{Moco, MocoConfig, info_nce};
pub use msf::{Msf, MsfConfig, TargetView};
pub use optimizer::{Decayed, OptimizerConfig};
pub use pretrain::{Precision, PretrainConfig, encoder_header, initial_encoder, pretrain};
pub use rotnet::{RotNet, RotNetConfig};
pub use schedule::{Schedule, at_shares};
pub use sgd::{Sgd, SgdState};
pub use simclr::{Simclr, SimclrConfig, nt_xent};
pub use train::{OnEpoch, Recipe, Training, train};
pub use whole::save_whole;

/// Mean cross entropy.
///
/// # Shapes
/// - `logits`: `[rows, classes]`
/// - `labels`: `[rows]`
/// - output: `[1]`
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1)).mean().neg()
}

// The fixtures' reader is shared with the tests of another crate.
#[cfg(test)]
extern crate self as ssl_backdoor_ssl;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod last_batch;
