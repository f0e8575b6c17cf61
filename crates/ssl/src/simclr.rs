//! SimCLR (Chen et al., 2020): each view of an image is matched with the other view against all other views of the
//! batch. As a victim it is that of CTRL (docs/protocol.md, 8), whose settings are the defaults.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{ChainViews, Views};
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, l2_normalize};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::loss::{cross_entropy, indices};
use crate::method::{Batch, Method, Progress, Step};
use crate::projector::Projected;
use crate::settings::{MethodSettings, check_dim, check_temperature};

/// Config of SimCLR.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimclrConfig {
    /// Temperature of NT-Xent.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Length of a projection.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
}

impl Default for SimclrConfig {
    fn default() -> Self {
        Self { temperature: 0.5, dim: 128 }
    }
}

impl MethodSettings for SimclrConfig {
    fn name(&self) -> &'static str {
        "simclr"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        TrainConfig { weight_decay: 5e-4, ..TrainConfig::sgd(epochs, 512, 0.06) }
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_temperature(self.temperature)?;
        Ok(check_dim("method.dim", self.dim)?)
    }

    fn views(
        &self,
        train: &TrainConfig,
        _encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError> {
        Ok(Arc::new(ChainViews::moco(size, train.crop, train.blurs(size))))
    }
}

/// The network of SimCLR.
#[derive(Module, Debug)]
pub struct Simclr {
    network: Projected,
    temperature: f64,
    /// Images in a step.
    batch: usize,
}

impl Simclr {
    /// `device` is an autodiff device.
    pub fn new(
        method: &SimclrConfig,
        encoder: &EncoderConfig,
        batch: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let SimclrConfig { temperature, dim } = *method;
        let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
        let widths = |width| vec![width, width, dim];
        let network = Projected::new(encoder, &mut rng, device, widths, true);
        Self { network, temperature, batch }
    }
}

impl Method for Simclr {
    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let views: [Tensor<4>; 2] = batch.views()?;
        let embeddings = l2_normalize(self.network.forward(Tensor::cat(views.to_vec(), 0), 1));
        Ok(Step::new(nt_xent(embeddings.clone(), self.temperature), embeddings))
    }

    fn encoder(&self) -> Encoder {
        self.network.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.network.encoder = trained;
        self
    }

    fn random_guess_loss(&self) -> Option<f64> {
        Some((2.0 * self.batch as f64 - 1.0).ln())
    }
}

/// NT-Xent: cross entropy of each row's similarities to all others, with its partner as the class.
///
/// # Shapes
/// - `embeddings`: `[2 · batch, dim]`, rows of norm 1, all first views before all second ones
/// - output: `[1]`
pub fn nt_xent(embeddings: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [rows, _] = embeddings.dims();
    let device = embeddings.device();
    let similarity = embeddings.clone().matmul(embeddings.transpose()).div_scalar(temperature);
    // No row is compared with itself.
    let others = similarity - Tensor::eye(rows, &device).mul_scalar(1e9);
    let partners = (0..rows).map(|row| ((row + rows / 2) % rows) as i64).collect();
    cross_entropy(others, indices(partners, &device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::init;

    #[test]
    fn nt_xent_by_hand() {
        let rows = vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8, -1.0, 0.0];
        let loss: f32 = nt_xent(init::matrix(rows, 2, &Device::flex()), 0.5).into_scalar();
        // Rows a, b and their partners c, d; similarities ab 0, ac 0.6, ad -1, bc 0.8, bd 0, cd -0.6.
        let of = |own: f64, others: [f64; 2]| {
            let all = [own, others[0], others[1]].map(|s| (2.0 * s).exp()).iter().sum::<f64>();
            all.ln() - 2.0 * own
        };
        let expected = (of(0.6, [0.0, -1.0])
            + of(0.0, [0.0, 0.8])
            + of(0.6, [0.8, -0.6])
            + of(0.0, [-1.0, -0.6]))
            / 4.0;
        assert!((f64::from(loss) - expected).abs() < 1e-5, "{loss} {expected}");
    }
}
