//! Planted bugs in the methods with two views: each trains, and its canary detects it.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_model::{Encoder, EncoderConfig, LarsConfig, LarsScope, Stem, update_ema};

use crate::barlow_twins::{BarlowTwins, BarlowTwinsConfig};
use crate::canary::CanaryMode;
use crate::config::TrainConfig;
use crate::ema::Ema;
use crate::error::PretrainError;
use crate::loss::{cross_entropy, indices};
use crate::method::{Batch, Method, Progress, Step};
use crate::moco_v3::{MocoV3, MocoV3Config};
use crate::optimizer::OptimizerConfig;
use crate::simclr_v2::{SimclrV2, SimclrV2Config};
use crate::simsiam::{SimSiam, SimSiamConfig, negative_cosine};
use crate::small_runs::drawn;
use crate::train::{Training, train};
use crate::vicreg::{Vicreg, VicregConfig};
use crate::view_pair::ViewPair;

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
const BATCH: usize = 20;
/// Images of each of ten classes: the set has two batches.
const PER_CLASS: usize = 4;
const SIZE: u32 = 8;

/// The canary that stopped a training with this many epochs, or none.
fn fallen<M: Method>(
    epochs: usize,
    lr: f64,
    optimizer: OptimizerConfig,
    of: impl Fn(&Training) -> M,
) -> &'static str {
    let training = Training::new(drawn(SIZE, PER_CLASS as u32), 1, &burn::tensor::Device::flex());
    let canaries = CanaryMode::Stop;
    let config = TrainConfig { canaries, optimizer, ..TrainConfig::sgd(epochs, BATCH, lr) };
    let views = Arc::new(ChainViews::moco(SIZE, (0.5, 1.0), false));
    match train(&training, &config, views, of(&training), &mut ()) {
        Ok(_) => "none",
        Err(PretrainError::Canary { canary, .. }) => canary,
        Err(other) => panic!("{other}"),
    }
}

/// Forwards the functions that a method with a bug shares with the sound one.
macro_rules! as_the_sound_one {
    () => {
        fn encoder(&self) -> Encoder {
            self.sound.encoder()
        }

        fn start_from(self, trained: Encoder, copy: Encoder) -> Self {
            Self { sound: self.sound.start_from(trained, copy) }
        }

        fn random_guess_loss(&self) -> Option<f64> {
            self.sound.random_guess_loss()
        }

        fn least_rank(&self) -> Option<f32> {
            self.sound.least_rank()
        }

        fn least_scale(&self) -> Option<f32> {
            self.sound.least_scale()
        }

        fn ema(&self, progress: &Progress) -> Option<Ema> {
            self.sound.ema(progress)
        }
    };
}

/// SimSiam with gradients through the projections.
#[derive(Module, Debug)]
struct BothSidesLearn {
    sound: SimSiam,
}

impl Method for BothSidesLearn {
    fn forward(&mut self, batch: Batch, _: &Progress) -> Result<Step, PretrainError> {
        let [predicted, projected] = self.sound.embed(batch.views()?);
        let [first, _] = predicted.clone();
        Ok(Step::new(negative_cosine(predicted, projected), first))
    }

    as_the_sound_one!();
}

fn simsiam(training: &Training) -> SimSiam {
    let config = SimSiamConfig { dim: 16, layers: 2, hidden: 8, views: ViewPair::MocoV2 };
    SimSiam::new(&config, &ENCODER, 1, &training.autodiff_device())
}

#[test]
fn simsiam_without_its_stop_gradient_collapses() {
    let sgd = OptimizerConfig::sgd();
    assert_eq!(fallen(100, 0.05, sgd, simsiam), "none");
    let found = fallen(100, 0.05, sgd, |t| BothSidesLearn { sound: simsiam(t) });
    assert_eq!(found, "rank");
}

fn barlow_twins(training: &Training, redundancy: f64) -> BarlowTwins {
    let config =
        BarlowTwinsConfig { hidden: 16, dim: 16, redundancy, ..BarlowTwinsConfig::default() };
    BarlowTwins::new(&config, &ENCODER, 1, &training.autodiff_device())
}

#[test]
fn barlow_twins_without_its_redundancy_term_says_the_same_in_all_features() {
    let sgd = OptimizerConfig::sgd();
    assert_eq!(fallen(100, 0.1, sgd, |t| barlow_twins(t, 0.05)), "none");
    assert_eq!(fallen(100, 0.1, sgd, |t| barlow_twins(t, 0.0)), "rank");
}

fn vicreg(training: &Training, variance: f64) -> Vicreg {
    let config = VicregConfig { hidden: 16, dim: 16, variance, ..VicregConfig::default() };
    Vicreg::new(&config, &ENCODER, 1, &training.autodiff_device())
}

#[test]
fn vicreg_without_its_variance_term_collapses() {
    let adam = OptimizerConfig::Adam { betas: [0.9, 0.999] };
    assert_eq!(fallen(100, 2e-3, adam, |t| vicreg(t, 25.0)), "none");
    assert_eq!(fallen(100, 2e-3, adam, |t| vicreg(t, 0.0)), "collapse");
}

/// SimCLR v2 that matches a view with the other view of the next image, not of the same one.
#[derive(Module, Debug)]
struct WrongPartners {
    sound: SimclrV2,
}

impl Method for WrongPartners {
    fn forward(&mut self, batch: Batch, _: &Progress) -> Result<Step, PretrainError> {
        let embeddings = self.sound.embed(batch.views()?);
        let (rows, device) = (embeddings.dims()[0], embeddings.device());
        let similarity = embeddings.clone().matmul(embeddings.clone().transpose());
        let others = similarity.div_scalar(self.sound.temperature)
            - Tensor::eye(rows, &device).mul_scalar(1e9);
        let partners = (0..rows).map(|row| ((row + rows / 2 + 1) % rows) as i64).collect();
        let loss = cross_entropy(others, indices(partners, &device)).mul_scalar(2.0);
        Ok(Step::new(loss, embeddings))
    }

    as_the_sound_one!();
}

fn simclr_v2(training: &Training) -> SimclrV2 {
    let config = SimclrV2Config { temperature: 0.5, dim: 8, ..SimclrV2Config::default() };
    SimclrV2::new(&config, &ENCODER, BATCH, 1, &training.autodiff_device())
}

#[test]
fn simclr_v2_with_wrong_partners_learns_nothing() {
    let sgd = OptimizerConfig::sgd();
    assert_eq!(fallen(260, 0.02, sgd, simclr_v2), "none");
    assert_eq!(fallen(260, 0.02, sgd, |t| WrongPartners { sound: simclr_v2(t) }), "chance");
}

/// MoCo v3 whose EMA leaves out the projector.
#[derive(Module, Debug)]
struct HeadLeftBehind {
    sound: MocoV3,
}

impl Method for HeadLeftBehind {
    fn before_step(mut self, _: &Progress) -> Result<Self, PretrainError> {
        let MocoV3 { target, online, .. } = &mut self.sound;
        target.encoder = update_ema(target.encoder.clone(), &online.encoder, 0.9);
        Ok(self)
    }

    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        self.sound.forward(batch, progress)
    }

    as_the_sound_one!();
}

/// MoCo v3 whose keys are those of other images.
#[derive(Module, Debug)]
struct ForeignKeys {
    sound: MocoV3,
}

impl Method for ForeignKeys {
    fn before_step(self, progress: &Progress) -> Result<Self, PretrainError> {
        Ok(Self { sound: self.sound.before_step(progress)? })
    }

    fn forward(&mut self, mut batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        let rows = batch.ids.len() as i64;
        let view = batch.views[1].clone();
        let next = indices((0..rows).map(|row| (row + 1) % rows).collect(), &view.device());
        batch.views[1] = view.select(0, next);
        self.sound.forward(batch, progress)
    }

    as_the_sound_one!();
}

fn moco_v3(training: &Training) -> MocoV3 {
    let config = MocoV3Config {
        momentum: 0.9,
        temperature: Some(0.2),
        hidden: 16,
        dim: 8,
        ..MocoV3Config::default()
    };
    MocoV3::new(&config, &ENCODER, BATCH, 1, &training.autodiff_device())
}

#[test]
fn moco_v3_with_the_keys_of_other_images_learns_nothing_and_its_ema_takes_the_head_along() {
    let sgd = OptimizerConfig::sgd();
    assert_eq!(fallen(260, 0.03, sgd, moco_v3), "none");
    assert_eq!(fallen(260, 0.03, sgd, |t| ForeignKeys { sound: moco_v3(t) }), "chance");
    assert_eq!(fallen(2, 0.03, sgd, |t| HeadLeftBehind { sound: moco_v3(t) }), "ema");
}

/// The shadow follows LARS in all its variants.
#[test]
fn lars_is_followed() {
    let plain = LarsConfig::new(0.02, false);
    for lars in [
        plain,
        LarsConfig { clip: true, ..plain },
        LarsConfig { scaled: LarsScope::All, ..plain },
        LarsConfig { norm_of_sum: true, lr_in_momentum: true, ..plain },
    ] {
        let lars = OptimizerConfig::Lars(lars);
        assert_eq!(fallen(5, 0.3, lars, |t| barlow_twins(t, 0.05)), "none");
    }
}
