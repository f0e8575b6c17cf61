//! Jigsaw puzzles (docs/protocol.md, 2.4): predicts in which of many known orders nine tiles of an image lie.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{JigsawViews, Views};
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose::INIT;
use ssl_backdoor_model::{Encoder, EncoderConfig, Mlp};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::error::PretrainError;
use crate::loss::{accuracy, cross_entropy, indices};
use crate::method::{Batch, Method, Progress, Step};
use crate::optimizer::WeightDecayScope;
use crate::permutations::{Permutation, TILES, permutations};
use crate::purpose::PERMUTATION;
use crate::schedule::{Schedule, at_shares};
use crate::settings::MethodSettings;

/// Config of Jigsaw; the defaults are the protocol's, for images of 224 px and more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JigsawConfig {
    /// Number of known orders of the tiles.
    #[schemars(range(min = 2, max = 100_000))]
    pub permutations: usize,
    /// Length in pixels to which the shorter side of an image is resized. The nine cells are those of the largest
    /// multiple of three below it (256: cells of 85; 49: cells of 16).
    #[schemars(range(min = 4, max = 4096))]
    pub resize: u32,
    /// Side of a tile in pixels, at most that of a cell.
    #[schemars(range(min = 1, max = 1365))]
    pub tile: u32,
}

impl Default for JigsawConfig {
    fn default() -> Self {
        Self { permutations: 2000, resize: 256, tile: 64 }
    }
}

impl MethodSettings for JigsawConfig {
    fn name(&self) -> &'static str {
        "jigsaw"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        let drops = at_shares(epochs, &[30.0, 60.0, 90.0, 100.0].map(|epoch| epoch / 105.0));
        let schedule = Schedule::Steps { drops, factor: 0.1, warmup_steps: 0 };
        TrainConfig {
            schedule,
            drop_last: Some(false),
            decayed: WeightDecayScope::NoBiasNoBn,
            ..TrainConfig::sgd(epochs, 256, 0.01)
        }
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        let fits = (2..=100_000).contains(&self.permutations);
        require(fits, "method.permutations", self.permutations, "2 to 100,000")?;
        let fits = (4..=4096).contains(&self.resize);
        require(fits, "method.resize", self.resize, "4 to 4,096 pixels")?;
        let cell = (self.resize - 1) / 3;
        let allowed = format!("1 to {cell} pixels, the side of a cell");
        Ok(require((1..=cell).contains(&self.tile), "method.tile", self.tile, allowed)?)
    }

    fn accumulates(&self) -> bool {
        true
    }

    fn views(
        &self,
        _train: &TrainConfig,
        _encoder: &EncoderConfig,
        _size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError> {
        Ok(Arc::new(JigsawViews { resize: self.resize, tile: self.tile }))
    }
}

/// An encoder that sees one tile at a time, and one linear layer on all nine features.
#[derive(Module, Debug)]
pub struct Jigsaw {
    pub(crate) encoder: Encoder,
    pub(crate) head: Mlp,
    /// Determined by the seed, so not part of the trained state.
    #[module(skip)]
    pub(crate) permutations: Vec<Permutation>,
}

impl Jigsaw {
    /// `device` is an autodiff device.
    pub fn new(method: &JigsawConfig, encoder: &EncoderConfig, seed: u64, device: &Device) -> Self {
        let mut rng = keyed(seed, INIT, 0, 0, 0);
        let net = encoder.init(&mut rng, device);
        let widths = [TILES * encoder.dim(), method.permutations];
        let head = Mlp::new(&widths, &mut rng, device);
        let mut rng = keyed(seed, PERMUTATION, 0, 0, 0);
        Self { encoder: net, head, permutations: permutations(method.permutations, &mut rng) }
    }
}

impl Method for Jigsaw {
    /// Tile k of an image goes to slot `permutation[k]`; each slot is one pass through the encoder,
    /// with batch-norm statistics of its own.
    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        let orders: Vec<usize> = batch
            .ids
            .iter()
            .map(|&id| {
                let epoch = progress.epoch as u32;
                let mut rng = keyed(progress.seed, PERMUTATION, epoch, id, 1);
                rng.random_range(0..self.permutations.len())
            })
            .collect();
        let tiles: [Tensor<4>; TILES] = batch.views()?;
        let (images, device) = (tiles[0].dims()[0], tiles[0].device());
        let tiles = Tensor::cat(tiles.to_vec(), 0);
        let slot = |slot: u8| {
            let rows = (0..images).zip(&orders).map(|(image, &order)| {
                let of_slot = |&place: &u8| place == slot;
                let tile = self.permutations[order].iter().position(of_slot).unwrap_or_default();
                (tile * images + image) as i64
            });
            self.encoder.forward(tiles.clone().select(0, indices(rows.collect(), &device)))
        };
        let features = Tensor::cat((0..TILES as u8).map(slot).collect(), 1);
        let logits = self.head.forward(features.clone());
        let labels = indices(orders.iter().map(|&order| order as i64).collect(), &device);
        let loss = cross_entropy(logits.clone(), labels.clone());
        Ok(Step { accuracy: Some(accuracy(logits, labels)), ..Step::new(loss, features) })
    }

    fn encoder(&self) -> Encoder {
        self.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, _copy: Encoder) -> Self {
        self.encoder = trained;
        self
    }

    fn random_guess_loss(&self) -> Option<f64> {
        Some((self.permutations.len() as f64).ln())
    }
}
