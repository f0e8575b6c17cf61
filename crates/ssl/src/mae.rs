//! MAE, the masked autoencoder (docs/protocol.md, 2.6): a transformer sees a quarter of an image's patches, and
//! a smaller one reconstructs the others.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{MaeViews, Views};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, MaeDecoder, Vit, patches};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::learning_rate::LearningRate;
use crate::loss::indices;
use crate::method::{Batch, Method, Progress, Step};
use crate::optimizer::{OptimizerConfig, WeightDecayScope};
use crate::schedule::Schedule;
use crate::settings::MethodSettings;

/// Config of MAE; the defaults are the official repository's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaeConfig {
    /// Share of the patches that the encoder does not see.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub mask_ratio: f64,
    /// Standardises each patch before it is compared.
    pub norm_pix: bool,
    /// Length of the decoder's tokens, a multiple of 4.
    #[schemars(range(min = 4, max = 8192))]
    pub decoder_dim: usize,
    /// Blocks of the decoder.
    #[schemars(range(min = 1, max = 128))]
    pub decoder_depth: usize,
    /// Attention heads of the decoder, a divisor of `decoder_dim`.
    #[schemars(range(min = 1))]
    pub decoder_heads: usize,
}

impl Default for MaeConfig {
    fn default() -> Self {
        Self {
            mask_ratio: 0.75,
            norm_pix: true,
            decoder_dim: 512,
            decoder_depth: 8,
            decoder_heads: 16,
        }
    }
}

impl MethodSettings for MaeConfig {
    fn name(&self) -> &'static str {
        "mae"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        let base = 1.5e-4;
        TrainConfig {
            optimizer: OptimizerConfig::AdamW { betas: [0.9, 0.95] },
            lr: LearningRate::Base(base),
            weight_decay: 0.05,
            decayed: WeightDecayScope::Matrices,
            schedule: Schedule::warmed_cosine(epochs, 40.0 / 800.0),
            ..TrainConfig::sgd(epochs, 4096, base)
        }
    }

    fn check(&self, _train: &TrainConfig, encoder: &EncoderConfig) -> Result<(), PretrainError> {
        let fits = self.mask_ratio > 0.0 && self.mask_ratio < 1.0;
        require(fits, "method.mask_ratio", self.mask_ratio, "above 0 and below 1")?;
        patch(encoder)?;
        let (dim, heads) = (self.decoder_dim, self.decoder_heads);
        let fits = (4..=8192).contains(&dim) && dim.is_multiple_of(4);
        require(fits, "method.decoder_dim", dim, "multiples of 4 from 4 to 8,192")?;
        let fits = (1..=128).contains(&self.decoder_depth);
        require(fits, "method.decoder_depth", self.decoder_depth, "1 to 128 blocks")?;
        let fits = heads > 0 && dim.is_multiple_of(heads);
        let allowed = format!("a divisor of decoder_dim = {dim}");
        Ok(require(fits, "method.decoder_heads", heads, allowed)?)
    }

    fn accumulates(&self) -> bool {
        true
    }

    fn views(
        &self,
        train: &TrainConfig,
        encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError> {
        Ok(Arc::new(MaeViews::new(size, train.crop, patch(encoder)?, self.mask_ratio)))
    }
}

/// Side of the patches of `encoder`, which must be a transformer.
fn patch(encoder: &EncoderConfig) -> Result<u32, PretrainError> {
    encoder.patch().map(|patch| patch as u32).ok_or_else(|| no_transformer(encoder))
}

fn no_transformer(encoder: &EncoderConfig) -> PretrainError {
    OutOfRange::new("encoder.kind", encoder.kind(), "MAE masks patches: \"vit\"").into()
}

/// Encoder and decoder of MAE.
#[derive(Module, Debug)]
pub struct Mae {
    pub(crate) encoder: Vit,
    pub(crate) decoder: MaeDecoder,
    norm_pix: bool,
}

impl Mae {
    /// `device` is an autodiff device.
    ///
    /// # Errors
    /// An encoder that is not a transformer.
    pub fn new(
        method: &MaeConfig,
        encoder: &EncoderConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, PretrainError> {
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let net = Vit::try_from(encoder.init(&mut rng, device))?;
        let MaeConfig { decoder_dim, decoder_depth, decoder_heads, norm_pix, .. } = *method;
        let sizes = [decoder_dim, decoder_depth, decoder_heads, net.patch()];
        let decoder = MaeDecoder::new(encoder.dim(), sizes, &mut rng, device);
        Ok(Self { encoder: net, decoder, norm_pix })
    }
}

impl Method for Mae {
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let [images] = batch.views()?;
        let ([count, _, height, width], device) = (images.dims(), images.device());
        let patch = self.encoder.patch();
        let grid = [height / patch, width / patch];
        let places = Places::of(&batch.hidden);
        let seen = indices(places.seen, &device);
        let tokens = self.encoder.tokens(images.clone(), Some(seen));
        let [_, _, dim] = tokens.dims();
        let mean = tokens.clone().slice(s![.., 1.., ..]).mean_dim(1).reshape([count, dim]);
        let painted = self.decoder.forward(tokens, indices(places.of_all, &device), grid);
        // The reconstruction is in 32 bits, whatever the encoder computes in.
        let wanted = patches(images.cast(DType::F32), patch);
        let loss = painting_loss(painted, wanted, indices(places.hidden, &device), self.norm_pix);
        Ok(Step::new(loss, mean))
    }

    fn encoder(&self) -> Encoder {
        self.encoder.clone().into()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        // `Mae::new` accepts only transformers.
        if let Ok(net) = Vit::try_from(trained) {
            self.encoder = net;
        }
        self
    }
}

/// The seen and the hidden patches, numbered across the batch.
struct Places {
    /// The seen ones.
    seen: Vec<i64>,
    /// The hidden ones.
    hidden: Vec<i64>,
    /// For every patch, its index among the seen ones; for a hidden patch, the number of seen ones.
    of_all: Vec<i64>,
}

impl Places {
    fn of(masks: &[Vec<bool>]) -> Self {
        let total = masks.iter().flatten().filter(|&&hidden| !hidden).count() as i64;
        let mut places = Self { seen: Vec::new(), hidden: Vec::new(), of_all: Vec::new() };
        for (at, &hidden) in (0..).zip(masks.iter().flatten()) {
            if hidden {
                places.hidden.push(at);
                places.of_all.push(total);
            } else {
                places.of_all.push(places.seen.len() as i64);
                places.seen.push(at);
            }
        }
        places
    }
}

/// Mean squared error on the hidden patches; with `norm_pix` each patch of `wanted` is standardised by its own mean
/// and unbiased variance.
///
/// # Shapes
/// - `painted`, `wanted`: `[batch, patches, length]`
/// - `hidden`: indices of the hidden patches across the batch
/// - output: `[1]`
fn painting_loss(
    painted: Tensor<3>,
    wanted: Tensor<3>,
    hidden: Tensor<1, burn::tensor::Int>,
    norm_pix: bool,
) -> Tensor<1> {
    let [batch, patches, length] = wanted.dims();
    let rows = |x: Tensor<3>| x.reshape([batch * patches, length]).select(0, hidden.clone());
    let mut wanted = rows(wanted);
    if norm_pix {
        let (variance, mean) = wanted.clone().var_mean(1);
        wanted = (wanted - mean) / variance.add_scalar(1e-6).sqrt();
    }
    (rows(painted) - wanted).powi_scalar(2).mean()
}

#[cfg(test)]
mod tests {
    use ssl_backdoor_model::Positions;

    use super::*;

    /// On a GPU, the images of a training in bf16 are in bf16.
    #[test]
    fn images_in_16_bits_have_nearly_the_same_loss() {
        let device = Device::flex().autodiff();
        let encoder = EncoderConfig::Vit {
            dim: 16,
            depth: 1,
            heads: 2,
            patch: 4,
            positions: Positions::default(),
        };
        let method = MaeConfig {
            decoder_dim: 16,
            decoder_depth: 1,
            decoder_heads: 2,
            ..MaeConfig::default()
        };
        let mut mae = Mae::new(&method, &encoder, 1, &device).unwrap();
        let values = (0..2 * 3 * 8 * 8).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
        let images = Tensor::<1>::from_floats(&values[..], &device).reshape([2, 3, 8, 8]);
        let progress = Progress { seed: 0, step: 0, steps: 1, epoch: 0, epochs: 1, seen: 0 };
        let mut loss = |images: Tensor<4>| -> f32 {
            let hidden = vec![vec![true, false, true, true], vec![true, true, true, false]];
            let batch = Batch { views: vec![images], ids: vec![0, 1], hidden };
            mae.forward(batch, &progress).unwrap().loss.into_scalar::<f32>()
        };
        let (full, half) = (loss(images.clone()), loss(images.cast(DType::BF16)));
        // The significand of bf16 has 8 bits.
        assert!((full - half).abs() < full / 128.0, "{full} {half}");
    }

    #[test]
    fn places_number_the_patches_through_the_batch() {
        let places = Places::of(&[vec![true, false, true, false], vec![false, true, true, false]]);
        assert_eq!(places.seen, [1, 3, 4, 7]);
        assert_eq!(places.hidden, [0, 2, 5, 6]);
        assert_eq!(places.of_all, [4, 0, 4, 1, 2, 4, 4, 3]);
    }
}
