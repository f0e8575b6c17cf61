#![doc = include_str!("../README.md")]

mod architecture;
mod batch_norm;
mod ema;
mod encoder;
mod encoder_file;
mod error;
mod head;
mod import;
pub mod init;
mod parameters;
mod queue;
mod resnet;
mod state_dict;
mod vit;

pub use batch_norm::BatchNorm;
pub use ema::update_ema;
pub use encoder::{Encoder, EncoderConfig, Positions};
pub use encoder_file::{
    EncoderHeader, Interpolation, Preprocessing, load_encoder, load_trainable, save_encoder,
};
pub use error::ModelError;
pub use head::{Mlp, l2_normalize};
pub use import::{ImportOptions, Imported};
pub use parameters::{OnParameter, for_each_parameter, is_running_statistic};
pub use queue::KeyQueue;
pub use resnet::{ResNet, Stem};
pub use vit::{MaeDecoder, Vit, patches};
