//! A pretraining: a method, its encoder and their training.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{MEAN, STD, Views};
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{
    Encoder, EncoderConfig, EncoderHeader, Interpolation, Preprocessing, load_trainable,
};
use ssl_backdoor_rng::keyed;

use crate::config::{Table, TrainConfig};
use crate::error::PretrainError;
use crate::method::Method;
use crate::observer::TrainObserver;
use crate::registry::{MethodConfig, WithMethod};
use crate::settings::Rescaling;
use crate::train::{Training, train};

/// The `[pretrain]` table: the method, the network and the training. Absent keys take the values of the
/// method's reference code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table<MethodConfig>")]
pub struct PretrainConfig {
    /// The self-supervised method.
    pub method: MethodConfig,
    /// The network it trains.
    pub encoder: EncoderConfig,
    /// How it is trained.
    #[serde(flatten)]
    pub train: TrainConfig,
}

impl TryFrom<Table<MethodConfig>> for PretrainConfig {
    type Error = PretrainError;

    fn try_from(table: Table<MethodConfig>) -> Result<Self, PretrainError> {
        let defaults = table.method.settings().defaults(&table.encoder, table.epochs);
        let (method, encoder, train) = table.resolve(defaults)?;
        Ok(Self { method, encoder, train })
    }
}

/// The schema of the table in a config file, where most settings are optional.
impl JsonSchema for PretrainConfig {
    fn schema_name() -> Cow<'static, str> {
        "PretrainConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Table::<MethodConfig>::json_schema(generator)
    }
}

impl PretrainConfig {
    /// `method` on `encoder`, with the training settings of its publication over `epochs` epochs.
    pub fn new(method: MethodConfig, encoder: EncoderConfig, epochs: usize) -> Self {
        let train = method.settings().defaults(&encoder, epochs);
        Self { method, encoder, train }
    }

    /// The same training over `epochs` epochs in batches of `batch`, as [`TrainConfig::with_budget`]; the method's
    /// own clocks scale with it.
    pub fn with_budget(&self, epochs: usize, batch: usize) -> Self {
        self.with_budget_on(1.0, epochs, batch)
    }

    /// The same on a `share` of its training images: clocks that count steps stay at the same share of the training.
    pub fn with_budget_on(&self, share: f64, epochs: usize, batch: usize) -> Self {
        let mut new = Self { train: self.train.with_budget(epochs, batch), ..self.clone() };
        let (epochs, batch) = ([self.train.epochs, epochs], [self.train.batch, batch]);
        new.method.settings_mut().rescale(&Rescaling { epochs, batch, images: share });
        new
    }

    /// Checks every value; `images` is the size of the training set (`None` if it is not known yet), `size` is the
    /// side of the images in pixels.
    ///
    /// # Errors
    /// [`PretrainError::Range`] that names the field.
    pub fn check(&self, images: Option<usize>, size: u32) -> Result<(), PretrainError> {
        let Self { method, encoder, train } = self;
        let fits = (1..=100_000).contains(&train.epochs);
        require(fits, "epochs", train.epochs, "1 to 100,000")?;
        self.check_training(images, size)?;
        method.settings().check_clocks(train, images)?;
        let keeps = !method.settings().defaults(encoder, train.epochs).drops_last();
        let allowed = "only jigsaw and rotnet can train on a smaller last batch";
        require(train.drops_last() || keeps, "drop_last", false, allowed)?;
        // Probes of every method use whole images.
        encoder.check_size(size).map_err(PretrainError::of_encoder)
    }

    /// Checks the requirements of the training loop, the encoder and the method.
    fn check_training(&self, images: Option<usize>, size: u32) -> Result<(), PretrainError> {
        self.train.check(images)?;
        self.encoder.check().map_err(PretrainError::of_encoder)?;
        let settings = self.method.settings();
        settings.check(&self.train, &self.encoder)?;
        if let Some(images) = images {
            settings.check_images(images)?;
        }
        self.check_parts()?;
        // Jigsaw trains on tiles.
        self.encoder.check_size(self.views(size)?.size()).map_err(PretrainError::of_encoder)
    }

    /// Checks that the method can process its batches in parts, and that each part has whole groups of batch norm.
    fn check_parts(&self) -> Result<(), PretrainError> {
        let (settings, parts) = (self.method.settings(), self.train.accumulate);
        let allowed =
            "1 with this method, because its loss compares the images of a batch with each other";
        require(parts == 1 || settings.accumulates(), "accumulate", parts, allowed)?;
        let batch = self.train.batch;
        let groups = settings.bn_groups(self.train.part());
        let fits = batch.is_multiple_of(parts * groups) && batch / (parts * groups) >= 2;
        let allowed = format!(
            "a number of parts, each of method.bn_groups = {groups} equal groups of 2 images or more, of batch = {batch}"
        );
        Ok(require(parts == 1 || groups == 1 || fits, "accumulate", parts, allowed)?)
    }

    /// The views of an image that the method trains on, of `size` pixels.
    ///
    /// # Errors
    /// [`PretrainError::Range`] for an encoder that the method does not train, or small crops that do not fit.
    pub fn views(&self, size: u32) -> Result<Arc<dyn Views>, PretrainError> {
        self.method.settings().views(&self.train, &self.encoder, size)
    }

    /// Runs `work` on the configured method, with weights drawn from `seed`, on the autodiff `device`.
    ///
    /// # Errors
    /// The method does not train such an encoder, or `work` fails.
    pub fn with_method<W: WithMethod>(
        &self,
        seed: u64,
        device: &Device,
        work: W,
    ) -> Result<W::Output, PretrainError> {
        self.method.build(&self.encoder, self.train.part(), seed, device, work)
    }
}

/// The encoder of a run before any training, in evaluation mode: both twins start from it.
pub fn initial_encoder(config: &PretrainConfig, seed: u64, device: &Device) -> Encoder {
    initial_trainable(config, seed, device).valid()
}

/// The same on an autodiff `device`, for training.
pub fn initial_trainable(config: &PretrainConfig, seed: u64, device: &Device) -> Encoder {
    let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
    config.encoder.init_as(config.method.settings().vit_initial(), &mut rng, device)
}

/// The header of the encoder files of a run: the network, and its images of `size` pixels a side.
pub fn encoder_header(encoder: EncoderConfig, size: u32) -> EncoderHeader {
    let interpolation = Interpolation::Bilinear;
    EncoderHeader::new(encoder, Preprocessing { size, mean: MEAN, std: STD, interpolation })
}

/// Trains the method of `config` on views of `size` pixels, or resumes from the checkpoint that `observer` returns,
/// and returns the encoder in evaluation mode. With `start`, the encoder begins with the weights of that file and
/// only the heads are new: this is fine-tuning with the same method.
///
/// # Errors
/// [`PretrainError::Range`] for a value that does not fit the method or the training set; [`PretrainError::Model`] if
/// `start` is not an encoder of this config; otherwise as [`train`].
pub fn pretrain(
    config: &PretrainConfig,
    start: Option<&Path>,
    size: u32,
    training: &Training,
    observer: &mut dyn TrainObserver,
) -> Result<Encoder, PretrainError> {
    config.check_training(Some(training.set.len()), size)?;
    let job = PretrainJob {
        start,
        header: encoder_header(config.encoder, size),
        training,
        config: &config.train,
        views: config.views(size)?,
        observer,
    };
    config.with_method(training.seed, &training.autodiff_device(), job)
}

/// What a training needs besides its method.
struct PretrainJob<'a> {
    start: Option<&'a Path>,
    header: EncoderHeader,
    training: &'a Training,
    config: &'a TrainConfig,
    views: Arc<dyn Views>,
    observer: &'a mut dyn TrainObserver,
}

impl WithMethod for PretrainJob<'_> {
    type Output = Encoder;

    fn on<M: Method>(self, mut method: M) -> Result<Encoder, PretrainError> {
        if let Some(start) = self.start {
            let device = self.training.autodiff_device();
            let read = || load_trainable(&self.header, start, &device);
            method = method.start_from(read()?, read()?);
        }
        train(self.training, self.config, self.views, method, self.observer)
    }
}

#[cfg(test)]
mod tests;
