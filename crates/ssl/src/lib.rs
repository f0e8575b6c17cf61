#![doc = include_str!("../README.md")]

mod barlow_twins;
mod byol;
mod canary;
mod checkpoint;
mod clip;
mod config;
mod crops;
mod deepcluster;
mod dino;
mod dino_head;
mod ema;
mod error;
mod export_training;
mod feed;
mod fine_tuning;
mod first_look;
mod folder;
mod hook;
mod jigsaw;
mod json_lines;
mod kmeans;
mod learning_rate;
mod loss;
mod mae;
mod meter;
mod method;
mod mixing;
mod moco;
mod moco_v3;
mod msf;
mod observer;
mod optimizer;
mod parts;
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
mod simclr_v2;
mod simsiam;
mod sinkhorn;
mod swapped;
mod swav;
mod train;
mod vicreg;
mod view_pair;
mod weight_decay;

pub use barlow_twins::{BarlowTwins, BarlowTwinsConfig, redundancy_loss};
pub use byol::{Byol, ByolConfig};
pub use canary::{CanaryMode, Spread};
pub use config::TrainConfig;
pub use deepcluster::{DeepCluster, DeepClusterConfig};
pub use dino::{Dino, DinoConfig};
pub use ema::{Ema, EmaTiming};
pub use error::{ObserverError, PretrainError};
pub use export_training::export_training;
pub use fine_tuning::kept_head;
pub use folder::TrainingFolder;
pub use hook::TrainingHook;
pub use jigsaw::{Jigsaw, JigsawConfig};
pub use learning_rate::LearningRate;
pub use loss::{accuracy, cross_entropy};
pub use mae::{Mae, MaeConfig};
pub use method::{Batch, Method, Progress, Step};
pub use mixing::{Mix, Seen};
pub use moco::{Moco, MocoConfig, info_nce};
pub use moco_v3::{MocoV3, MocoV3Config, contrast};
pub use msf::{Msf, MsfConfig, TargetView};
pub use observer::{
    Checkpoint, EpochReport, EpochTiming, StepReport, TrainObserver, TrainState, after_each_epoch,
};
pub use optimizer::{OptimizerConfig, WeightDecayScope};
pub use precision::Precision;
pub use pretrain::{PretrainConfig, encoder_header, initial_encoder, initial_trainable, pretrain};
pub use registry::{MethodConfig, WithMethod};
pub use rotnet::{RotNet, RotNetConfig};
pub use schedule::{Schedule, at_shares};
pub use settings::{MethodSettings, Rescaling};
pub use sgd::Sgd;
pub use simclr::{Simclr, SimclrConfig, nt_xent};
pub use simclr_v2::{SimclrV2, SimclrV2Config};
pub use simsiam::{SimSiam, SimSiamConfig, negative_cosine};
pub use sinkhorn::sinkhorn;
pub use swapped::swapped_prediction;
pub use swav::{Swav, SwavConfig};
pub use train::{Training, train};
pub use vicreg::{Vicreg, VicregConfig, variance_invariance_covariance};
pub use view_pair::ViewPair;

// The reader of fixtures names this crate, because the tests of another crate use it too.
#[cfg(test)]
extern crate self as ssl_backdoor_ssl;
#[cfg(test)]
mod accumulated;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod last_batch;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod planted_crops;
#[cfg(test)]
mod planted_pairs;
#[cfg(test)]
mod resumed_crops;
#[cfg(test)]
mod small_runs;
