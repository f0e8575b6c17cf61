//! Self-supervised pretraining: the methods, and the one loop that trains them all.
//!
//! A [`Method`] is a model, its views and a loss that is a pure function; [`train`] drives it
//! over batches of views with schedules that are arrays computed beforehand, writes
//! `metrics.jsonl` and `timing.jsonl`, and checkpoints so that a killed run goes on to the same
//! bytes.
//!
//! `metrics.jsonl` holds only what the seed decides; speed goes to `timing.jsonl`.

mod checkpoint;
mod error;
mod method;
mod metrics;
mod moco;
mod pretrain;
mod schedule;
mod sgd;
mod train;

pub use error::PretrainError;
pub use method::{Method, MethodConfig, Progress, Step};
pub use moco::{Moco, info_nce};
pub use pretrain::{PretrainConfig, initial_encoder, pretrain};
pub use schedule::{cosine_per_epoch, step_drops};
pub use sgd::{Sgd, SgdState};
pub use train::{OnEpoch, Recipe, Training, train};
