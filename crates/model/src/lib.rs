//! The networks: ResNet and ViT encoders with torchvision's and MAE's names, projection heads, the exponential moving
//! average of a target network, the queue of keys, and encoder files.
//!
//! Code is written once against Burn's `Tensor<D>`; the device chosen at run time executes it.
//! Initial weights are drawn on the host from a generator that the caller keys, so they are the
//! same on every device.
//!
//! ```no_run
//! use rand::SeedableRng;
//! use ssl_backdoor_model::{EncoderConfig, Stem};
//!
//! # let device = burn::tensor::Device::default();
//! let config = EncoderConfig::Resnet18 { width: 16, stem: Stem::Small };
//! let encoder = config.init(&mut rand_chacha::ChaCha8Rng::seed_from_u64(1), &device);
//! let features = encoder.forward(burn::tensor::Tensor::zeros([4, 3, 32, 32], &device));
//! assert_eq!(features.dims(), [4, 128]);
//! ```

mod batch_norm;
mod ema;
mod encoder;
mod encoder_file;
mod error;
mod head;
pub mod init;
mod parameters;
mod queue;
mod resnet;
mod vit;

pub use batch_norm::BatchNorm;
pub use ema::update_ema;
pub use encoder::{Encoder, EncoderConfig};
pub use encoder_file::{Preprocessing, load_encoder, load_trainable, save_encoder};
pub use error::ModelError;
pub use head::{Mlp, l2_normalize};
pub use parameters::{OnParameter, for_each_parameter, is_running_statistic};
pub use queue::KeyQueue;
pub use resnet::{ResNet, Stem};
pub use vit::{MaeDecoder, Vit, patches};
