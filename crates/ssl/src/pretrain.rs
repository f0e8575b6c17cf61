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
mod tests {
    use super::*;
    use crate::learning_rate::LearningRate;

    fn config(text: &str) -> Result<PretrainConfig, String> {
        let encoder =
            "encoder = { kind = \"vit\", dim = 8, depth = 1, heads = 2, patch = 4 }\nepochs = 10\n";
        toml::from_str(&format!("{encoder}{text}")).map_err(|e| e.to_string())
    }

    const MAE: &str = "method = { kind = \"mae\" }\n";

    #[test]
    fn review_1_03_a_base_rate_follows_the_batch_and_a_fixed_one_does_not() {
        let mae = config(MAE).unwrap();
        assert_eq!((mae.train.batch, mae.train.lr), (4096, LearningRate::Base(1.5e-4)));
        assert!((mae.train.learning_rate() - 2.4e-3).abs() < 1e-15);
        // In the file …
        let smaller = config(&format!("{MAE}batch = 512\n")).unwrap();
        assert!((smaller.train.learning_rate() - 3e-4).abs() < 1e-15);
        let other = config(&format!("{MAE}batch = 512\nbase_lr = 1e-3\n")).unwrap();
        assert!((other.train.learning_rate() - 2e-3).abs() < 1e-15);
        // … and in a control of the defence.
        assert!((other.with_budget(5, 64).train.learning_rate() - 2.5e-4).abs() < 1e-15);
        let fixed = config(&format!("{MAE}batch = 512\nlr = 1e-3\n")).unwrap();
        assert_eq!(
            (fixed.train.learning_rate(), fixed.with_budget(5, 64).train.learning_rate()),
            (1e-3, 1e-3)
        );
        // BYOL's reference does not scale its rate.
        let byol = config("method = { kind = \"byol\" }\nbatch = 32\n").unwrap();
        assert_eq!(byol.train.lr, LearningRate::Fixed(2e-3));
        let base = config("method = { kind = \"byol\" }\nbatch = 32\nbase_lr = 1e-3").unwrap();
        assert_eq!(base.train.learning_rate(), 1.25e-4);
    }

    #[test]
    fn review_1_03_a_resolved_config_is_the_same_training() {
        for more in
            ["", "lr = 1e-3", "base_lr = 1e-3", "batch = 512", "batch = 512\nbase_lr = 1e-3"]
        {
            let read = config(&format!("{MAE}{more}\n")).unwrap();
            let text = toml::to_string(&read).unwrap();
            assert_eq!(toml::from_str::<PretrainConfig>(&text).unwrap(), read, "{text}");
            let keys = ["\nlr = ", "\nbase_lr = "].map(|key| text.matches(key).count());
            assert_eq!(keys.iter().sum::<usize>(), 1, "{text}");
        }
        // Only Jigsaw and RotNet write `drop_last`; older configs of other methods keep their text.
        let of = |kind: &str| config(&format!("method = {{ kind = \"{kind}\" }}")).unwrap();
        for (kind, says) in
            [("rotnet", true), ("jigsaw", true), ("moco-v2", false), ("byol", false)]
        {
            let (read, text) = (of(kind), toml::to_string(&of(kind)).unwrap());
            assert_eq!(toml::from_str::<PretrainConfig>(&text).unwrap(), read, "{text}");
            assert_eq!(text.contains("drop_last = false"), says, "{text}");
            assert!(!text.contains("bn_groups"), "{text}");
        }
    }

    #[test]
    fn review_1_03_both_rates_at_once_are_refused() {
        let message = config(&format!("{MAE}lr = 1e-3\nbase_lr = 1e-4\n")).unwrap_err();
        let says = |word| message.contains(word);
        assert!(says("lr = 0.001") && says("base_lr = 0.0001"), "{message}");
        let mae = config(&format!("{MAE}base_lr = 0\n"));
        let message = mae.unwrap().check(None, 32).unwrap_err().to_string();
        assert!(message.contains("base_lr = 0 "), "{message}");
    }

    #[test]
    fn review_1_06_groups_follow_the_batch_unless_they_are_given() {
        let groups = |text: &str| {
            let config = config(text).unwrap();
            let of =
                |config: &PretrainConfig| config.method.settings().bn_groups(config.train.batch);
            (of(&config), of(&config.with_budget(3, 50)))
        };
        assert_eq!(groups("method = { kind = \"moco-v2\" }"), (2, 1));
        assert_eq!(groups("method = { kind = \"byol\" }"), (4, 1));
        assert_eq!(groups("method = { kind = \"msf\" }"), (4, 1));
        assert_eq!(groups("method = { kind = \"moco-v2\", bn_groups = 1 }"), (1, 1));
        assert_eq!(groups("method = { kind = \"moco-v2\", bn_groups = 2 }\nbatch = 16"), (2, 2));
        assert_eq!(groups("method = { kind = \"rotnet\" }"), (1, 1));
    }

    /// Features of a fixed image.
    fn features(encoder: &Encoder) -> Vec<f32> {
        let pixels: Vec<f32> = (0..3 * 64).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let images = burn::tensor::TensorData::new(pixels, [1, 3, 8, 8]);
        let features =
            encoder.valid().forward(burn::tensor::Tensor::from_data(images, &Device::flex()));
        features.into_data().iter::<f32>().collect()
    }

    struct Start;

    impl WithMethod for Start {
        type Output = Vec<f32>;

        fn on<M: Method>(self, method: M) -> Result<Self::Output, PretrainError> {
            Ok(features(&method.encoder()))
        }
    }

    /// The encoder called untrained is the one that training starts from, whichever initial weights the method uses.
    #[test]
    fn the_initial_encoder_is_the_one_that_training_starts_from() {
        let device = Device::flex();
        let started = |method: &str| {
            let config = config(&format!("method = {{ {method} }}\nbatch = 16\n")).unwrap();
            let initial = features(&initial_encoder(&config, 3, &device));
            let start = config.with_method(3, &device.clone().autodiff(), Start).unwrap();
            assert_eq!(initial, start, "{method}");
            initial
        };
        let mae = started("kind = \"mae\"");
        let dino = started("kind = \"dino\", outputs = 8, hidden = 8, bottleneck = 4");
        let moco_v3 = started("kind = \"moco-v3\", hidden = 8, dim = 4");
        assert_eq!(started("kind = \"moco-v2\", queue = 16"), mae);
        assert!(mae != dino && mae != moco_v3 && dino != moco_v3);
    }

    #[test]
    fn a_methods_own_clocks_follow_the_budget() {
        let of = |method: &str| config(&format!("method = {{ {method} }}\nbatch = 64\n")).unwrap();
        let clocks = |config: &PretrainConfig| match &config.method {
            MethodConfig::Swav(own) => [own.frozen_steps, own.queue_from],
            MethodConfig::Dino(own) => [own.teacher_warmup, own.frozen_epochs],
            _ => [0, 0],
        };
        let swav = of("kind = \"swav\", frozen_steps = 100, queue_from = 4");
        assert_eq!(clocks(&swav.with_budget(10, 64)), [100, 4]);
        // Twice as many epochs of four times as many steps.
        assert_eq!(clocks(&swav.with_budget(20, 16)), [800, 8]);
        assert_eq!(clocks(&swav.with_budget_on(0.25, 20, 16)), [200, 8]);
        let dino = of("kind = \"dino\", teacher_warmup = 5, frozen_epochs = 1");
        assert_eq!(clocks(&dino.with_budget(30, 64)), [15, 3]);
        assert_eq!(clocks(&dino.with_budget(2, 64)), [1, 0]);
        // A valid config stays valid.
        assert!(dino.with_budget(1, 64).check(Some(640), 32).is_ok());
    }

    #[test]
    fn a_clock_behind_the_end_of_the_training_is_refused() {
        let said = |method: &str, images: Option<usize>| {
            let config = config(&format!("method = {{ {method} }}\nbatch = 64\n")).unwrap();
            config.check(images, 32).map_err(|e| e.to_string())
        };
        // Ten epochs of ten steps.
        let swav = |more: &str| said(&format!("kind = \"swav\", {more}"), Some(640));
        assert_eq!(swav("queue = 576, queue_from = 9, frozen_steps = 99"), Ok(()));
        assert_eq!(swav("queue = 0, frozen_steps = 0"), Ok(()));
        let message = swav("queue = 0").unwrap_err();
        assert!(
            message.starts_with("method.frozen_steps = 5005 is out of range: below the 100 steps")
        );
        let message = swav("queue_from = 10, frozen_steps = 0").unwrap_err();
        assert!(message.starts_with("method.queue_from = 10 is out of range: below the 10 epochs"));
        assert_eq!(said("kind = \"swav\", queue = 0", None), Ok(()));
        let dino = |more: &str| said(&format!("kind = \"dino\", {more}"), None);
        assert_eq!(dino("teacher_warmup = 10, frozen_epochs = 9"), Ok(()));
        let message = dino("frozen_epochs = 1").unwrap_err();
        assert!(message.starts_with("method.teacher_warmup = 30 is out of range: at most the 10"));
        let message = dino("teacher_warmup = 0, frozen_epochs = 10").unwrap_err();
        assert!(message.starts_with("method.frozen_epochs = 10 is out of range: below the 10"));
    }

    #[test]
    fn review_2_03_the_number_of_images_is_named_once_it_is_known() {
        let config = config(&format!("{MAE}batch = 1\n")).unwrap();
        let message = |images| config.check(images, 32).unwrap_err().to_string();
        assert_eq!(message(None), "batch = 1 is out of range: 2 to 65,536");
        assert!(message(Some(50)).ends_with("2 to 65,536 and at most the 50 training images"));
    }

    /// Config tables, each with its resolved text in version 0.2.0: finished runs are recognised by that text.
    #[test]
    fn resolved_configs_keep_their_text() {
        let fixture = include_str!("../tests/fixtures/resolved.txt");
        let mut cases = 0;
        for case in fixture.split("# ---\n").skip(1) {
            let (written, resolved) = case.split_once("# ->\n").unwrap();
            let config: PretrainConfig = toml::from_str(written).unwrap();
            assert_eq!(
                toml::to_string_pretty(&config).unwrap().trim(),
                resolved.trim(),
                "{written}"
            );
            assert_eq!(toml::from_str::<PretrainConfig>(resolved).unwrap(), config, "{written}");
            cases += 1;
        }
        assert_eq!(cases, 21);
        // In JSON, the keys keep their old order: the twins of a sweep are found by it.
        let json = serde_json::to_string(&config(MAE).unwrap()).unwrap();
        let keys = ["method", "encoder", "epochs", "batch", "base_lr", "weight_decay", "decayed"];
        let more = ["optimizer", "schedule", "crop", "checkpoint_every", "keep", "canaries"];
        let at = |key: &&str| json.find(&format!("\"{key}\":")).unwrap();
        let at: Vec<usize> = keys.iter().chain(&more).map(at).collect();
        assert!(at.is_sorted(), "{json}");
    }

    #[test]
    fn a_config_in_code_is_that_of_a_file_that_is_silent() {
        let read = config(MAE).unwrap();
        assert_eq!(PretrainConfig::new(read.method.clone(), read.encoder, 10), read);
    }
}
