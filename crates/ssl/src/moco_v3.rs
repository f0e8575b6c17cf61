//! MoCo v3 (Chen, Xie and He, ICCV 2021): the prediction from one view must match the EMA copy's projection of the
//! other view, among those of all images of the batch. It has no queue, and it trains transformers too.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::Views;
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{
    Encoder, EncoderConfig, HeadEnd, LarsConfig, Mlp, VitInitial, l2_normalize, update_ema,
};
use ssl_backdoor_rng::keyed;

use crate::config::TrainConfig;
use crate::ema::{Ema, EmaTiming};
use crate::error::PretrainError;
use crate::learning_rate::LearningRate;
use crate::loss::{cross_entropy, indices};
use crate::method::{Batch, Method, Progress, Step};
use crate::mixing::{Mix, Seen};
use crate::optimizer::OptimizerConfig;
use crate::projector::Projected;
use crate::schedule::{Schedule, rising_momentum};
use crate::settings::{MethodSettings, check_dim, check_momentum, check_temperature};
use crate::view_pair::ViewPair;

/// Config of MoCo v3; the defaults are the official code's over 300 epochs, those for a ViT if the encoder is one, and else
/// those for a ResNet-50.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MocoV3Config {
    /// EMA momentum of the target in the first step; it rises to 1 along a cosine, step by step.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Temperature of the contrast. Default: 0.2 for a transformer, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: Option<f64>,
    /// Inner width of projector and predictor.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// Length of a projection.
    #[schemars(range(min = 1, max = 65_536))]
    pub dim: usize,
    /// Layers of the projector. Default: 3 for a transformer, else 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub layers: Option<usize>,
    /// The augmentation of the views.
    pub views: ViewPair,
}

impl Default for MocoV3Config {
    fn default() -> Self {
        Self {
            momentum: 0.99,
            temperature: None,
            hidden: 4096,
            dim: 256,
            layers: None,
            views: ViewPair::Asymmetric,
        }
    }
}

impl MethodSettings for MocoV3Config {
    fn name(&self) -> &'static str {
        "moco-v3"
    }

    fn defaults(&self, encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        if encoder.patch().is_some() {
            let base = 1.5e-4;
            return TrainConfig {
                optimizer: OptimizerConfig::AdamW { betas: [0.9, 0.999] },
                lr: LearningRate::Base(base),
                weight_decay: 0.1,
                schedule: Schedule::warmed_cosine(epochs, 40.0 / 300.0),
                crop: (0.08, 1.0),
                ..TrainConfig::sgd(epochs, 4096, base)
            };
        }
        TrainConfig {
            optimizer: OptimizerConfig::Lars(LarsConfig {
                norm_of_sum: true,
                ..LarsConfig::new(0.001, false)
            }),
            weight_decay: 1.5e-6,
            schedule: Schedule::warmed_cosine(epochs, 10.0 / 300.0),
            crop: (0.2, 1.0),
            ..TrainConfig::lars(epochs, 4096, 0.3)
        }
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_momentum(self.momentum)?;
        self.temperature.map_or(Ok(()), check_temperature)?;
        check_dim("method.hidden", self.hidden)?;
        check_dim("method.dim", self.dim)?;
        let layers = self.layers.unwrap_or(2);
        Ok(require((1..=16).contains(&layers), "method.layers", layers, "1 to 16")?)
    }

    fn vit_initial(&self) -> Option<VitInitial> {
        Some(VitInitial::MocoV3)
    }

    fn mixes(&self) -> bool {
        true
    }

    fn views(
        &self,
        train: &TrainConfig,
        _encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError> {
        Ok(self.views.views(train, size))
    }
}

/// Online network with predictor, and target network.
#[derive(Module, Debug)]
pub struct MocoV3 {
    pub(crate) online: Projected,
    pub(crate) predictor: Mlp,
    pub(crate) target: Projected,
    momentum: f64,
    temperature: f64,
    /// Images in a step.
    batch: usize,
}

impl MocoV3 {
    /// Online and target network start with equal weights. A transformer's patch embedding never learns. `batch` is
    /// that of training; `device` is an autodiff device.
    pub fn new(
        method: &MocoV3Config,
        encoder: &EncoderConfig,
        batch: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let MocoV3Config { momentum, temperature, hidden, dim, layers, .. } = *method;
        let is_transformer = encoder.patch().is_some();
        let temperature = temperature.unwrap_or(if is_transformer { 0.2 } else { 1.0 });
        let inner = layers.unwrap_or(if is_transformer { 3 } else { 2 }).saturating_sub(1);
        let widths = |width| [vec![width], vec![hidden; inner], vec![dim]].concat();
        let network = || {
            let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
            let drawn = encoder.init_as(method.vit_initial(), &mut rng, device);
            let widths = widths(encoder.dim());
            let head = Mlp::ending(&widths, HeadEnd::Standardized, &mut rng, device);
            (Projected { encoder: drawn, head }, rng)
        };
        let (mut online, mut rng) = network();
        online.encoder = with_fixed_patches(online.encoder);
        // In the official code, the predictor ends with a batch norm only for transformers.
        let end = if is_transformer { HeadEnd::Standardized } else { HeadEnd::Unbiased };
        let predictor = Mlp::ending(&[dim, hidden, dim], end, &mut rng, device);
        let target = network().0.no_grad();
        Self { online, predictor, target, momentum, temperature, batch }
    }

    /// Compares the online network's predictions with the target's keys of the other views.
    fn step(&mut self, seen: [Seen; 2], views: [Tensor<4>; 2]) -> Step {
        let [first, second] = seen.each_ref().map(|seen| {
            let projected = self.online.forward(seen.images.clone(), 1);
            l2_normalize(self.predictor.forward(projected))
        });
        let [of_first, of_second] =
            views.map(|view| l2_normalize(self.target.forward(view, 1)).detach());
        let contrast = |query: &Tensor<2>, keys| contrast(query.clone(), keys, self.temperature);
        let loss = seen[0].loss(of_second, |keys| contrast(&first, keys))
            + seen[1].loss(of_first, |keys| contrast(&second, keys));
        Step::new(loss, first)
    }

    /// `1 − (1 − m) · ½(1 + cos(π · step / steps))`: from m to 1.
    fn momentum_at(&self, progress: &Progress) -> f64 {
        let done = progress.step as f64 / progress.steps.max(1) as f64;
        rising_momentum(self.momentum, done)
    }
}

impl Method for MocoV3 {
    fn before_step(self, progress: &Progress) -> Result<Self, PretrainError> {
        let momentum = self.momentum_at(progress);
        let target = update_ema(self.target, &self.online, momentum);
        Ok(Self { target, ..self })
    }

    fn forward(&mut self, batch: Batch, _progress: &Progress) -> Result<Step, PretrainError> {
        let views: [Tensor<4>; 2] = batch.views()?;
        Ok(self.step(views.clone().map(Seen::whole), views))
    }

    /// The online network sees both views mixed.
    fn forward_mixed(
        &mut self,
        batch: Batch,
        mixes: &[Mix],
        _progress: &Progress,
    ) -> Result<Step, PretrainError> {
        let (views, seen) = batch.mixed(mixes)?;
        Ok(self.step(seen, views))
    }

    fn encoder(&self) -> Encoder {
        self.online.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, copy: Encoder) -> Self {
        self.online.encoder = with_fixed_patches(trained);
        self.target.encoder = copy.no_grad();
        self
    }

    fn random_guess_loss(&self) -> Option<f64> {
        Some(2.0 * 2.0 * self.temperature * (self.batch as f64).ln())
    }

    fn ema(&self, progress: &Progress) -> Option<Ema> {
        let momentum = self.momentum_at(progress);
        Some(Ema::new(&self.online, &self.target, momentum, EmaTiming::BeforeStep))
    }
}

/// Cross entropy of each query's similarities to all keys of the batch, with its own key as the class, times 2T, so
/// that the size of the gradients does not depend on the temperature.
///
/// # Shapes
/// - `query`, `keys`: `[batch, dim]`, rows of norm 1
/// - output: `[1]`
pub fn contrast(query: Tensor<2>, keys: Tensor<2>, temperature: f64) -> Tensor<1> {
    let (rows, device) = (query.dims()[0] as i64, query.device());
    let similarity = query.matmul(keys.transpose()).div_scalar(temperature);
    cross_entropy(similarity, indices((0..rows).collect(), &device)).mul_scalar(2.0 * temperature)
}

/// The encoder with a patch embedding that does not learn, if it has one: with random projections, a transformer
/// trains more stably (section 4.2 of the paper).
fn with_fixed_patches(encoder: Encoder) -> Encoder {
    encoder.map(&mut FixPatches { inside: 0 })
}

struct FixPatches {
    /// Number of modules on the current path that are a patch embedding or lie inside one.
    inside: usize,
}

impl ModuleMapper for FixPatches {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.inside += usize::from(self.inside > 0 || name == "patch_embed");
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.inside = self.inside.saturating_sub(1);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.inside == 0 { param } else { param.set_require_grad(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::GradientsParams;
    use ssl_backdoor_model::{OnParameter, Positions, Stem, for_each_parameter, init};

    fn progress(step: usize) -> Progress {
        Progress { seed: 1, step, steps: 100, epoch: 0, epochs: 1, seen: 4 * step }
    }

    fn moco(encoder: &EncoderConfig) -> MocoV3 {
        let config = MocoV3Config { hidden: 6, dim: 4, ..MocoV3Config::default() };
        MocoV3::new(&config, encoder, 4, 1, &Device::flex().autodiff())
    }

    const VIT: EncoderConfig =
        EncoderConfig::Vit { dim: 8, depth: 1, heads: 2, patch: 4, positions: Positions::Fixed };

    #[test]
    fn the_contrast_by_hand() {
        let rows = |values: &[f32]| init::matrix(values.to_vec(), 2, &Device::flex());
        let (query, keys) = (rows(&[1.0, 0.0, 0.6, 0.8]), rows(&[0.8, 0.6, 0.0, 1.0]));
        let loss: f32 = contrast(query, keys, 0.5).into_scalar();
        // Similarities 0.8, 0 and 0.96, 0.8.
        let row = |own: f64, other: f64| ((2.0 * own).exp() + (2.0 * other).exp()).ln() - 2.0 * own;
        let expected = 2.0 * 0.5 * (row(0.8, 0.0) + row(0.8, 0.96)) / 2.0;
        assert!((f64::from(loss) - expected).abs() < 1e-6, "{loss} {expected}");
    }

    #[test]
    fn the_defaults_of_a_transformer_are_its_own() {
        let config = MocoV3Config::default();
        let [vit, resnet] = [VIT, EncoderConfig::Resnet18 { width: 1, stem: Stem::Small }]
            .map(|encoder| (config.defaults(&encoder, 300), moco(&encoder).temperature));
        assert_eq!((vit.1, resnet.1), (0.2, 1.0));
        assert_eq!((vit.0.lr, resnet.0.lr), (LearningRate::Base(1.5e-4), LearningRate::Base(0.3)));
        assert_eq!((vit.0.weight_decay, resnet.0.weight_decay), (0.1, 1.5e-6));
        assert_eq!(vit.0.schedule, Schedule::Cosine { warmup_epochs: 40 });
        assert!(vit.0.check(None).is_ok() && vit.0.optimizer != resnet.0.optimizer);
    }

    #[test]
    fn the_momentum_goes_from_its_start_to_one_by_steps() {
        let moco = moco(&EncoderConfig::Resnet18 { width: 1, stem: Stem::Small });
        let at = |step| moco.momentum_at(&progress(step));
        assert!((at(0) - 0.99).abs() < 1e-12 && (at(50) - 0.995).abs() < 1e-12);
        assert!(at(99) < 1.0 && at(99) > 0.99999 && at(1) > at(0));
    }

    /// Parameters of the online network without a gradient.
    #[derive(Default)]
    struct Idle(Vec<String>, Option<GradientsParams>);

    impl OnParameter for Idle {
        fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
            let learns = self.1.as_ref().is_some_and(|grads| grads.get::<D>(param.id).is_some());
            if !learns && !path.contains("running_") {
                self.0.push(path.to_owned());
            }
        }
    }

    #[test]
    fn the_patch_embedding_of_a_transformer_alone_does_not_learn() {
        let idle = |moco: MocoV3| {
            let device = Device::flex().autodiff();
            let values: Vec<f32> =
                (0..4 * 3 * 64).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
            let view = burn::tensor::TensorData::new(values, [4, 3, 8, 8]);
            let views = vec![Tensor::from_data(view, &device); 2];
            let batch = Batch { views, ids: (0..4).collect(), hidden: Vec::new() };
            let mut moco = moco.before_step(&progress(0)).unwrap();
            let grads = moco.forward(batch, &progress(0)).unwrap().loss.backward();
            let mut idle = Idle(Vec::new(), Some(GradientsParams::from_grads(grads, &moco)));
            for_each_parameter(&moco.online, &mut idle);
            idle.0
        };
        let norm = ["head.norms.2.weight", "head.norms.2.bias"];
        let fixed = ["encoder.Vit.patch_embed.proj.weight", "encoder.Vit.patch_embed.proj.bias"];
        assert_eq!(idle(moco(&VIT)), [fixed, norm].concat());
        // The same with an encoder from `start_from`.
        let mut rng = keyed(2, purpose::INIT, 0, 0, 0);
        let device = Device::flex().autodiff();
        let [trained, copy] = [VIT.init(&mut rng, &device), VIT.init(&mut rng, &device)];
        assert_eq!(idle(moco(&VIT).start_from(trained, copy)), [fixed, norm].concat());
        let resnet = EncoderConfig::Resnet18 { width: 1, stem: Stem::Small };
        assert_eq!(idle(moco(&resnet)), ["head.norms.1.weight", "head.norms.1.bias"]);
    }
}
