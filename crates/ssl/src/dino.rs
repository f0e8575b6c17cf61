//! DINO (Caron et al., ICCV 2021, arXiv 2104.14294): from each crop of an image, a student learns to predict the
//! output of its EMA copy, the teacher, for a large crop. The teacher's outputs are centred and sharpened, so that
//! training collapses neither to one output nor to a uniform distribution.

use std::sync::Arc;

use burn::module::{Module, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::{Chain, ChainViews, Filter, Views};
use ssl_backdoor_fields::require;
use ssl_backdoor_model::purpose;
use ssl_backdoor_model::{Encoder, EncoderConfig, VitInitial, update_ema};
use ssl_backdoor_rng::keyed;

use crate::clip::clip_each;
use crate::config::TrainConfig;
use crate::crops::{SmallConfig, crops, images, of_view};
use crate::dino_head::DinoNet;
use crate::ema::{Ema, EmaTiming};
use crate::error::PretrainError;
use crate::learning_rate::LearningRate;
use crate::method::{Batch, Method, Progress, Step};
use crate::optimizer::{OptimizerConfig, WeightDecayScope};
use crate::schedule::{Schedule, rising_momentum};
use crate::settings::{MethodSettings, Rescaling, check_dim, check_momentum, check_temperature};
use crate::swapped::{check_prototypes, swapped_prediction};
use crate::view_pair::ViewPair;

/// Large crops of an image; they differ in blur and solarisation.
const LARGE: usize = 2;

/// Config of DINO; the defaults are those of the official code (`main_dino.py`) except for the teacher's temperature. It grows
/// from 0.04 to 0.07 in 30 epochs, which the repository's README recommends under "Boosting DINO performance"; the code's
/// own default is `teacher_temperature = [0.04, 0.04]` with `teacher_warmup = 0`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DinoConfig {
    /// Outputs of the heads.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub outputs: usize,
    /// Hidden width of the heads.
    #[schemars(range(min = 1, max = 65_536))]
    pub hidden: usize,
    /// Length of an embedding before the last layer.
    #[schemars(range(min = 1, max = 65_536))]
    pub bottleneck: usize,
    /// Temperature of the student.
    #[schemars(range(max = 100), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Temperature of the teacher in the first epoch and after the warm-up; it rises linearly, epoch by epoch. Range:
    /// above 0, at most 100.
    #[schemars(inner(range(max = 100)))]
    pub teacher_temperature: [f64; 2],
    /// Epochs of the teacher's warm-up, including the first one at the final temperature; at most `epochs`.
    pub teacher_warmup: usize,
    /// EMA momentum of the teacher in the first step; it rises to 1 along a cosine, step by step.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// EMA momentum of the centre.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub centre_momentum: f64,
    /// Largest norm of the gradient of a parameter; 0 does not clip.
    #[schemars(range(min = 0.0))]
    pub clip: f64,
    /// First epochs in which the last layer is not trained, fewer than `epochs`.
    pub frozen_epochs: usize,
    /// The augmentation of large and small crops.
    pub views: ViewPair,
    /// Small crops of an image, which only the student sees.
    #[schemars(range(min = 0, max = 64))]
    pub small: usize,
    /// Side of a small crop in pixels, below that of a large one. Default: 96/224 of that of a large crop.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub small_size: Option<u32>,
    /// Share of the area of an image that a small crop takes, lowest and highest. Range: above 0, at most 1.
    #[schemars(inner(range(max = 1)))]
    pub small_crop: (f64, f64),
}

impl Default for DinoConfig {
    fn default() -> Self {
        Self {
            outputs: 65_536,
            hidden: 2048,
            bottleneck: 256,
            temperature: 0.1,
            teacher_temperature: [0.04, 0.07],
            teacher_warmup: 30,
            momentum: 0.996,
            centre_momentum: 0.9,
            clip: 3.0,
            frozen_epochs: 1,
            small: 8,
            views: ViewPair::Asymmetric,
            small_size: None,
            small_crop: (0.05, 0.4),
        }
    }
}

impl DinoConfig {
    fn small(&self) -> SmallConfig {
        SmallConfig { count: self.small, size: self.small_size, crop: self.small_crop }
    }
}

impl MethodSettings for DinoConfig {
    fn name(&self) -> &'static str {
        "dino"
    }

    fn defaults(&self, _encoder: &EncoderConfig, epochs: usize) -> TrainConfig {
        let base = 5e-4;
        TrainConfig {
            optimizer: OptimizerConfig::AdamW { betas: [0.9, 0.999] },
            lr: LearningRate::Base(base),
            weight_decay: 0.04,
            final_weight_decay: Some(0.4),
            decayed: WeightDecayScope::Matrices,
            schedule: Schedule::warmed_cosine(epochs, 10.0 / 100.0),
            crop: (0.4, 1.0),
            ..TrainConfig::sgd(epochs, 512, base)
        }
    }

    fn check(&self, _train: &TrainConfig, _encoder: &EncoderConfig) -> Result<(), PretrainError> {
        check_prototypes("method.outputs", self.outputs)?;
        check_dim("method.hidden", self.hidden)?;
        check_dim("method.bottleneck", self.bottleneck)?;
        check_temperature(self.temperature)?;
        let teacher = self.teacher_temperature;
        let fits = teacher.iter().all(|&t| t > 0.0 && t <= 100.0);
        let value = format!("{teacher:?}");
        require(fits, "method.teacher_temperature", value, "above 0, at most 100")?;
        check_momentum(self.momentum)?;
        let fits = (0.0..=1.0).contains(&self.centre_momentum);
        require(fits, "method.centre_momentum", self.centre_momentum, "0 to 1")?;
        let fits = self.clip >= 0.0 && self.clip.is_finite();
        require(fits, "method.clip", self.clip, "0 or more")?;
        Ok(self.small().check()?)
    }

    fn vit_initial(&self) -> Option<VitInitial> {
        Some(VitInitial::Dino)
    }

    fn check_clocks(
        &self,
        train: &TrainConfig,
        _images: Option<usize>,
    ) -> Result<(), PretrainError> {
        let epochs = train.epochs;
        let (warmup, frozen) = (self.teacher_warmup, self.frozen_epochs);
        let allowed = format!(
            "at most the {epochs} epochs of the training (the default is for 100 or more; 0 for none)"
        );
        require(warmup <= epochs, "method.teacher_warmup", warmup, allowed)?;
        let allowed = format!("below the {epochs} epochs of the training");
        Ok(require(frozen < epochs, "method.frozen_epochs", frozen, allowed)?)
    }

    fn rescale(&mut self, by: &Rescaling) {
        self.teacher_warmup = by.epoch(self.teacher_warmup);
        self.frozen_epochs = by.epoch(self.frozen_epochs);
    }

    fn views(
        &self,
        train: &TrainConfig,
        encoder: &EncoderConfig,
        size: u32,
    ) -> Result<Arc<dyn Views>, PretrainError> {
        let ChainViews(all) = crops(self.views, LARGE, self.small(), train, encoder, size)?;
        let bicubic = |chain| Chain { filter: Filter::Bicubic, ..chain };
        Ok(Arc::new(ChainViews(all.into_iter().map(bicubic).collect())))
    }
}

/// Student and teacher of DINO, and the centre of the teacher's outputs.
#[derive(Module, Debug)]
pub struct Dino {
    pub(crate) student: DinoNet,
    pub(crate) teacher: DinoNet,
    /// `[1, outputs]`, without gradient.
    pub(crate) centre: Param<Tensor<2>>,
    temperature: f64,
    teacher_temperature: [f64; 2],
    teacher_warmup: usize,
    momentum: f64,
    centre_momentum: f64,
    clip: f64,
    frozen_epochs: usize,
    small: usize,
}

impl Dino {
    /// Student and teacher start with equal weights, the centre at 0. `device` is an autodiff device.
    pub fn new(method: &DinoConfig, encoder: &EncoderConfig, seed: u64, device: &Device) -> Self {
        let DinoConfig { hidden, bottleneck, outputs, .. } = *method;
        let network = || {
            let mut rng = keyed(seed, purpose::INIT, 0, 0, 0);
            let drawn = encoder.init_as(method.vit_initial(), &mut rng, device);
            let widths = [encoder.dim(), hidden, bottleneck, outputs];
            DinoNet::behind(drawn, widths, &mut rng, device)
        };
        let centre = Tensor::zeros([1, outputs], device).set_require_grad(false);
        Self {
            student: network(),
            teacher: network().no_grad(),
            centre: Param::initialized(ParamId::new(), centre),
            temperature: method.temperature,
            teacher_temperature: method.teacher_temperature,
            teacher_warmup: method.teacher_warmup,
            momentum: method.momentum,
            centre_momentum: method.centre_momentum,
            clip: method.clip,
            frozen_epochs: method.frozen_epochs,
            small: method.small,
        }
    }

    /// The teacher's temperature in an epoch.
    fn teacher_temperature_in(&self, epoch: usize) -> f64 {
        let [first, last] = self.teacher_temperature;
        let between = self.teacher_warmup.saturating_sub(1);
        if epoch >= self.teacher_warmup || between == 0 {
            return if epoch >= self.teacher_warmup { last } else { first };
        }
        first + (last - first) * epoch as f64 / between as f64
    }

    /// `1 − (1 − τ) · ½(1 + cos(π · step / steps))`: from τ to 1.
    fn momentum_at(&self, progress: &Progress) -> f64 {
        let done = progress.step as f64 / progress.steps as f64;
        rising_momentum(self.momentum, done)
    }

    /// Moves the centre towards the mean of the teacher's outputs.
    fn move_centre(&mut self, outputs: Tensor<2>) {
        let mean = outputs.mean_dim(0).mul_scalar(1.0 - self.centre_momentum);
        let centre = self.centre.val().mul_scalar(self.centre_momentum) + mean;
        let centre = centre.detach().set_require_grad(false);
        self.centre = Param::initialized(self.centre.id, centre);
    }
}

impl Method for Dino {
    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        let count = images(&batch.views, LARGE + self.small)?;
        let said = self.teacher.forward(&batch.views[..LARGE]).detach();
        let sharpness = self.teacher_temperature_in(progress.epoch);
        let targets = softmax((said.clone() - self.centre.val()).div_scalar(sharpness), 1);
        let targets: Vec<Tensor<2>> =
            (0..LARGE).map(|view| of_view(&targets, view, count)).collect();
        self.move_centre(said);
        let predicted = self.student.forward(&batch.views).div_scalar(self.temperature);
        let loss = swapped_prediction(&targets, &log_softmax(predicted, 1));
        // If the same output wins for all images, or none does, the targets are alike: this is how DINO collapses.
        Ok(Step::new(loss, targets[0].clone()))
    }

    /// Clips each gradient, and removes that of the last layer in the first epochs.
    fn gradients(&self, mut grads: GradientsParams, progress: &Progress) -> GradientsParams {
        if self.clip > 0.0 {
            grads = clip_each(self, grads, self.clip);
        }
        if progress.epoch < self.frozen_epochs {
            let _ = grads.remove::<2>(self.student.directions.id);
        }
        grads
    }

    fn after_step(self, _keys: Vec<Tensor<2>>, progress: &Progress) -> Result<Self, PretrainError> {
        let momentum = self.momentum_at(progress);
        let teacher = update_ema(self.teacher, &self.student, momentum);
        Ok(Self { teacher, ..self })
    }

    /// The teacher's encoder, which the reference evaluates.
    fn encoder(&self) -> Encoder {
        self.teacher.encoder.clone()
    }

    fn start_from(mut self, trained: Encoder, copy: Encoder) -> Self {
        self.student.encoder = trained;
        self.teacher.encoder = copy.no_grad();
        self
    }

    fn random_guess_loss(&self) -> Option<f64> {
        Some((self.centre.val().dims()[1] as f64).ln())
    }

    fn ema(&self, progress: &Progress) -> Option<Ema> {
        let momentum = self.momentum_at(progress);
        Some(Ema::new(&self.student, &self.teacher, momentum, EmaTiming::AfterStep))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::Stem;

    fn dino(method: &DinoConfig) -> Dino {
        let encoder = EncoderConfig::Resnet18 { width: 1, stem: Stem::Small };
        let method = DinoConfig { outputs: 4, hidden: 3, bottleneck: 2, ..method.clone() };
        Dino::new(&method, &encoder, 1, &Device::flex().autodiff())
    }

    /// `np.concatenate([np.linspace(.04, .07, 4), np.ones(3) * .07])`.
    #[test]
    fn the_teachers_temperature_grows_linearly_and_stays() {
        let dino = dino(&DinoConfig { teacher_warmup: 4, ..DinoConfig::default() });
        let found: Vec<f64> = (0..7).map(|epoch| dino.teacher_temperature_in(epoch)).collect();
        for (found, wanted) in found.iter().zip([0.04, 0.05, 0.06, 0.07, 0.07, 0.07, 0.07]) {
            assert!((found - wanted).abs() < 1e-12, "{found}");
        }
        let none = self::dino(&DinoConfig { teacher_warmup: 0, ..DinoConfig::default() });
        assert_eq!(none.teacher_temperature_in(0), 0.07);
    }

    #[test]
    fn the_centre_is_the_running_mean_of_what_the_teacher_says() {
        let mut dino = dino(&DinoConfig::default());
        let device = Device::flex().autodiff();
        let rows =
            Tensor::<2>::from_data([[1.0f32, 0.0, 2.0, -1.0], [3.0, 0.0, 0.0, -1.0]], &device);
        dino.move_centre(rows.clone());
        dino.move_centre(rows);
        let centre: Vec<f32> = dino.centre.val().into_data().try_to_vec().unwrap();
        for (found, wanted) in centre.iter().zip([0.38, 0.0, 0.19, -0.19]) {
            assert!((found - wanted).abs() < 1e-6, "{centre:?}");
        }
    }
}
