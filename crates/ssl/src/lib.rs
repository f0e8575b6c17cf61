#![doc = include_str!("../README.md")]

mod byol;
mod canary;
mod checkpoint;
mod config;
mod ema;
mod error;
mod export_training;
mod folder;
mod hook;
mod jigsaw;
mod json_lines;
mod learning_rate;
mod loss;
mod mae;
mod meter;
mod method;
mod mixing;
mod moco;
mod msf;
mod observer;
mod optimizer;
mod permutations;
mod precision;
mod pretrain;
mod projector;
pub mod purpose;
mod registry;
mod rotnet;
mod schedule;
mod settings;
mod sgd;
mod simclr;
mod train;

pub use byol::{Byol, ByolConfig};
pub use canary::{CanaryMode, Spread};
pub use config::TrainConfig;
pub use ema::{Ema, EmaTiming};
pub use error::{ObserverError, PretrainError};
pub use export_training::export_training;
pub use folder::TrainingFolder;
pub use hook::TrainingHook;
pub use jigsaw::{Jigsaw, JigsawConfig};
pub use learning_rate::LearningRate;
pub use loss::{accuracy, cross_entropy};
pub use mae::{Mae, MaeConfig};
pub use method::{Batch, Method, Progress, Step};
pub use mixing::{Mix, Seen};
pub use moco::{Moco, MocoConfig, info_nce};
pub use msf::{Msf, MsfConfig, TargetView};
pub use observer::{
    Checkpoint, EpochReport, EpochTiming, StepReport, TrainObserver, TrainState, after_each_epoch,
};
pub use optimizer::{OptimizerConfig, WeightDecayScope};
pub use precision::Precision;
pub use pretrain::{PretrainConfig, encoder_header, initial_encoder, pretrain};
pub use registry::{MethodConfig, WithMethod};
pub use rotnet::{RotNet, RotNetConfig};
pub use schedule::{Schedule, at_shares};
pub use settings::MethodSettings;
pub use sgd::{Sgd, SgdState};
pub use simclr::{Simclr, SimclrConfig, nt_xent};
pub use train::{Training, train};

// The fixtures' reader is shared with the tests of another crate.
#[cfg(test)]
extern crate self as ssl_backdoor_ssl;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod last_batch;
#[cfg(test)]
mod planted;
