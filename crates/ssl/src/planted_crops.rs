//! Planted bugs in the methods with large and small crops: each trains, and its canary detects it.

use std::sync::Arc;

use burn::module::{Module, ModuleDisplay, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use ssl_backdoor_data::EpochPlan;
use ssl_backdoor_data::augment::{Chain, ChainViews, SmallCrops};
use ssl_backdoor_model::{Encoder, EncoderConfig, KeyQueue, Stem};

use crate::canary::CHANCE_FROM;
use crate::config::TrainConfig;
use crate::deepcluster::{DeepCluster, DeepClusterConfig};
use crate::dino::{Dino, DinoConfig};
use crate::ema::Ema;
use crate::error::PretrainError;
use crate::method::{Batch, Method, Progress, Step};
use crate::optimizer::OptimizerConfig;
use crate::small_runs::drawn;
use crate::swav::{Swav, SwavConfig};
use crate::train::{Training, train};

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
/// Images of each of the ten classes.
const PER_CLASS: usize = 4;
const SIZE: u32 = 12;
/// Small crops of an image, and their side.
const SMALL: usize = 2;
const SMALL_SIZE: u32 = 8;

/// Settings of a training on 40 images with SGD, and MoCo v2's augmentation for the crops.
fn usual(epochs: usize) -> (TrainConfig, Chain) {
    (TrainConfig::sgd(epochs, 20, 0.1), Chain::moco(SIZE, (0.5, 1.0), false))
}

/// The canary that stopped a training on crops like this one, or none.
fn fallen<M: Method>(
    (config, large): (TrainConfig, Chain),
    of: impl Fn(&Training) -> M,
) -> &'static str {
    let training = Training::new(drawn(SIZE, PER_CLASS as u32), 1, &Device::flex());
    let small = SmallCrops { count: SMALL, size: SMALL_SIZE, crop: large.crop };
    let views = Arc::new(ChainViews(vec![large; 2]).with_small(large, small));
    match train(&training, &config, views, of(&training), &mut ()) {
        Ok(_) => "none",
        Err(PretrainError::Canary { canary, .. }) => canary,
        Err(other) => panic!("{other}"),
    }
}

/// A bug in a method.
trait Bug: std::fmt::Debug + Clone + Send + Sync + 'static {
    type Of: Method + ModuleDisplay;

    /// Runs after `before_step` of the sound method; `old` is the method before it.
    fn before(_old: Self::Of, sound: Self::Of) -> Self::Of {
        sound
    }

    /// Runs after its forward pass.
    fn forward(_sound: &mut Self::Of) {}
}

/// A method with the bug `B`.
#[derive(Module, Debug)]
struct With<M: Module, B: std::fmt::Debug + Clone + Send + Sync> {
    sound: M,
    #[module(skip)]
    bug: B,
}

impl<B: Bug> Method for With<B::Of, B> {
    fn prepare(self, plan: &EpochPlan) -> Result<Self, PretrainError> {
        Ok(Self { sound: self.sound.prepare(plan)?, ..self })
    }

    fn looks_first(&self) -> Option<usize> {
        self.sound.looks_first()
    }

    fn look(&mut self, batch: Batch, positions: &[u64]) -> Result<(), PretrainError> {
        self.sound.look(batch, positions)
    }

    fn before_step(self, progress: &Progress) -> Result<Self, PretrainError> {
        let sound = B::before(self.sound.clone(), self.sound.before_step(progress)?);
        Ok(Self { sound, ..self })
    }

    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        let step = self.sound.forward(batch, progress)?;
        B::forward(&mut self.sound);
        Ok(step)
    }

    fn gradients(&self, grads: GradientsParams, progress: &Progress) -> GradientsParams {
        self.sound.gradients(grads, progress)
    }

    fn after_step(self, keys: Vec<Tensor<2>>, progress: &Progress) -> Result<Self, PretrainError> {
        Ok(Self { sound: self.sound.after_step(keys, progress)?, ..self })
    }

    fn encoder(&self) -> Encoder {
        self.sound.encoder()
    }

    fn start_from(self, trained: Encoder, copy: Encoder) -> Self {
        Self { sound: self.sound.start_from(trained, copy), ..self }
    }

    fn random_guess_loss(&self) -> Option<f64> {
        self.sound.random_guess_loss()
    }

    fn queues(&self) -> Vec<&KeyQueue> {
        self.sound.queues()
    }

    fn prototypes(&self) -> Vec<Tensor<2>> {
        self.sound.prototypes()
    }

    fn ema(&self, progress: &Progress) -> Option<Ema> {
        self.sound.ema(progress)
    }
}

fn swav(training: &Training, epsilon: f64) -> Swav {
    let config = SwavConfig {
        epsilon,
        prototypes: 6,
        frozen_steps: 10,
        queue: 40,
        queue_from: 2,
        hidden: 16,
        dim: 8,
        small: SMALL,
        ..SwavConfig::default()
    };
    Swav::new(&config, &ENCODER, 1, &training.autodiff_device())
}

/// Prototypes keep the norms that the optimiser gives them.
#[derive(Debug, Clone)]
struct LongPrototypes;

impl Bug for LongPrototypes {
    type Of = Swav;

    fn before(old: Swav, mut sound: Swav) -> Swav {
        sound.prototypes = old.prototypes;
        sound
    }
}

#[test]
fn swav_is_called_without_normalised_prototypes_and_when_its_loss_stays_at_ln_k() {
    // Views of almost the same part, whose codes even so small a network learns to predict; two steps per epoch.
    let easy = || {
        let optimizer = OptimizerConfig::Adam { betas: [0.9, 0.999] };
        let train = TrainConfig::sgd(CHANCE_FROM / 2, 20, 2e-3);
        (TrainConfig { optimizer, ..train }, Chain::moco(SIZE, (0.9, 1.0), false))
    };
    assert_eq!(fallen(easy(), |t| swav(t, 0.02)), "none");
    let long = |t: &Training| With { sound: swav(t, 0.02), bug: LongPrototypes };
    assert_eq!(fallen(usual(1), long), "prototypes");
    // Codes so soft that all prototypes have the same share of every image: nothing can be predicted.
    assert_eq!(fallen(easy(), |t| swav(t, 100.0)), "chance");
}

fn dino(training: &Training) -> Dino {
    let config = DinoConfig {
        outputs: 12,
        hidden: 16,
        bottleneck: 8,
        teacher_warmup: 0,
        momentum: 0.9,
        small: SMALL,
        ..DinoConfig::default()
    };
    Dino::new(&config, &ENCODER, 1, &training.autodiff_device())
}

/// The teacher's outputs are not centred.
#[derive(Debug, Clone)]
struct NoCentre;

impl Bug for NoCentre {
    type Of = Dino;

    fn forward(sound: &mut Dino) {
        let zero = sound.centre.val().zeros_like().set_require_grad(false);
        sound.centre = Param::initialized(sound.centre.id, zero);
    }
}

#[test]
fn dino_without_centring_collapses() {
    assert_eq!(fallen(usual(80), dino), "none");
    let found = fallen(usual(80), |t| With { sound: dino(t), bug: NoCentre });
    assert_eq!(found, "collapse");
}

fn deepcluster(training: &Training) -> DeepCluster {
    let config = DeepClusterConfig {
        prototypes: vec![8, 12],
        hidden: 16,
        dim: 8,
        small: SMALL,
        ..DeepClusterConfig::default()
    };
    DeepCluster::new(&config, &ENCODER, 1, &training.autodiff_device())
}

/// Centres are shorter than 1, like means that are not normalised.
#[derive(Debug, Clone)]
struct ShortCentres;

impl Bug for ShortCentres {
    type Of = DeepCluster;

    fn before(_: DeepCluster, mut sound: DeepCluster) -> DeepCluster {
        let short = |centres: Param<Tensor<2>>| {
            centres.map(|rows: Tensor<2>| rows.mul_scalar(0.9).set_require_grad(false))
        };
        sound.prototypes = sound.prototypes.into_iter().map(short).collect();
        sound
    }
}

#[test]
fn deepcluster_is_called_without_normalised_centres() {
    assert_eq!(fallen(usual(60), deepcluster), "none");
    let short = |t: &Training| With { sound: deepcluster(t), bug: ShortCentres };
    assert_eq!(fallen(usual(1), short), "prototypes");
}
