#![doc = include_str!("../README.md")]

mod batch_norm;
mod checkpoint;
mod conv4;
mod ema;
mod encoder;
mod encoder_file;
mod error;
#[cfg(test)]
mod families;
mod family;
mod found;
mod head;
mod import;
pub mod init;
mod lars;
mod layout;
mod options;
mod origin;
mod parameters;
mod parts;
mod preprocessing;
pub mod purpose;
mod queue;
mod regnet;
mod resnet;
mod tools;
mod velocity;
mod vit;

pub use batch_norm::BatchNorm;
pub use conv4::{Conv4, Conv4Config};
pub use ema::update_ema;
pub use encoder::{Encoder, EncoderConfig};
pub use encoder_file::{EncoderHeader, load_encoder, load_trainable, save_encoder};
pub use error::ModelError;
pub use head::{HeadEnd, Mlp, l2_normalize};
pub use import::Imported;
pub use lars::{Lars, LarsConfig, LarsScope};
pub use options::ImportOptions;
pub use origin::{Basis, Finding};
pub use parameters::{OnParameter, for_each_parameter, is_running_statistic};
pub use preprocessing::{Interpolation, Preprocessing};
pub use queue::KeyQueue;
pub use regnet::{RegNet, RegNetConfig, RegNetShape, RegNetSize, RegNetStem};
pub use resnet::{ResNet, Stem, StemShape};
pub use velocity::Velocity;
pub use vit::{MaeDecoder, Positions, Vit, VitInitial, patches};
