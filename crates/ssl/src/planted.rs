//! Trainings with planted bugs, each of which its canary detects.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_model::{
    Encoder, EncoderConfig, KeyQueue, LarsConfig, LarsScope, Mlp, Stem, update_ema,
};

use crate::canary::{CHANCE_FROM, COLLAPSE_FROM, Canaries, CanaryMode, Shadow};
use crate::config::TrainConfig;
use crate::ema::Ema;
use crate::error::PretrainError;
use crate::method::{Batch, Method, Progress, Step};
use crate::moco::{Moco, MocoConfig};
use crate::observer::TrainObserver;
use crate::optimizer::{OptimizerConfig, WeightDecayScope};
use crate::small_runs::drawn;
use crate::train::{Training, train};

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
const BATCH: usize = 10;
const PER_CLASS: usize = 4;

/// The bug in a MoCo v2.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    Nothing,
    /// The batch's keys enter the queue before the loss.
    PollutedQueue,
    /// Keys of norm 2 enter the queue.
    LongKeys,
    /// The EMA moves the key encoder but not its head.
    EmaWithoutHead,
    /// The target requires gradients.
    LearningTarget,
    /// All images have the same embedding.
    ConstantEncoder,
    /// A gradient is NaN although the loss is finite.
    InfiniteGradient,
    /// The loss is that of guessing and does not depend on the network.
    Guessing,
}

/// MoCo v2 with a bug.
#[derive(Module, Debug)]
struct Buggy {
    moco: Moco,
    #[module(skip)]
    bug: Bug,
}

/// Makes every parameter require a gradient.
struct Tracked;

impl ModuleMapper for Tracked {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| value.detach().require_grad())
    }
}

impl Method for Buggy {
    fn before_step(self, progress: &Progress) -> Result<Self, PretrainError> {
        let mut moco = self.moco;
        match self.bug {
            Bug::EmaWithoutHead => {
                moco.key.encoder = update_ema(moco.key.encoder, &moco.query.encoder, 0.9);
            }
            _ => moco = moco.before_step(progress)?,
        }
        if self.bug == Bug::LearningTarget {
            moco.key = moco.key.map(&mut Tracked);
        }
        Ok(Self { moco, ..self })
    }

    fn forward(&mut self, batch: Batch, progress: &Progress) -> Result<Step, PretrainError> {
        let before = self.moco.queue.clone();
        if self.bug == Bug::PollutedQueue {
            let keys = self.moco.forward(batch.clone(), progress)?.keys.remove(0);
            self.moco.queue.enqueue(keys, progress.seen)?;
        }
        let mut step = self.moco.forward(batch, progress)?;
        self.moco.queue = before;
        let one = step.loss.clone();
        match self.bug {
            Bug::LongKeys => step.keys = vec![step.keys.remove(0).mul_scalar(2.0)],
            Bug::ConstantEncoder => step.embeddings = step.embeddings.ones_like(),
            // √x is 0 at 0, and its slope is infinite.
            Bug::InfiniteGradient => step.loss = one.clone() + one.mul_scalar(0.0).sqrt(),
            Bug::Guessing => {
                let chance = self.random_guess_loss().unwrap_or_default();
                step.loss = one.mul_scalar(0.0).add_scalar(chance);
            }
            _ => {}
        }
        Ok(step)
    }

    fn after_step(self, keys: Vec<Tensor<2>>, progress: &Progress) -> Result<Self, PretrainError> {
        Ok(Self { moco: self.moco.after_step(keys, progress)?, ..self })
    }

    fn encoder(&self) -> Encoder {
        self.moco.encoder()
    }

    fn start_from(self, trained: Encoder, copy: Encoder) -> Self {
        Self { moco: self.moco.start_from(trained, copy), ..self }
    }

    fn random_guess_loss(&self) -> Option<f64> {
        self.moco.random_guess_loss()
    }

    fn queues(&self) -> Vec<&KeyQueue> {
        self.moco.queues()
    }

    fn ema(&self, progress: &Progress) -> Option<Ema> {
        self.moco.ema(progress)
    }
}

/// Collects the warnings.
#[derive(Default)]
struct Warnings(Vec<String>);

impl TrainObserver for Warnings {
    fn on_warning(&mut self, warning: &PretrainError) {
        self.0.push(warning.to_string());
    }
}

/// Trains a MoCo v2 with a bug and returns the warnings.
fn run(bug: Bug, epochs: usize, canaries: CanaryMode) -> Result<Vec<String>, PretrainError> {
    let training = Training::new(drawn(8, PER_CLASS as u32), 1, &Device::flex());
    let method = MocoConfig { queue: 20, momentum: 0.9, dim: 6, ..MocoConfig::default() };
    let moco = Moco::new(&method, &ENCODER, BATCH, 1, &training.autodiff_device());
    let config = TrainConfig { canaries, ..TrainConfig::sgd(epochs, BATCH, 0.03) };
    let views = Arc::new(ChainViews::moco(8, (0.5, 1.0), false));
    let mut warnings = Warnings::default();
    train(&training, &config, views, Buggy { moco, bug }, &mut warnings)?;
    Ok(warnings.0)
}

fn fallen(bug: Bug, epochs: usize) -> &'static str {
    match run(bug, epochs, CanaryMode::Stop) {
        Ok(warnings) if warnings.is_empty() => "none",
        Ok(warnings) => panic!("{warnings:?}"),
        Err(PretrainError::Canary { canary, .. }) => canary,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_sound_method_hears_nothing() {
    assert_eq!(fallen(Bug::Nothing, 30), "none");
}

#[test]
fn each_bug_is_called_by_its_canary() {
    assert_eq!(fallen(Bug::PollutedQueue, 1), "own-keys");
    assert_eq!(fallen(Bug::LongKeys, 1), "queue-norm");
    assert_eq!(fallen(Bug::EmaWithoutHead, 1), "ema");
    assert_eq!(fallen(Bug::LearningTarget, 1), "ema");
    assert_eq!(fallen(Bug::InfiniteGradient, 1), "gradient");
    assert_eq!(fallen(Bug::ConstantEncoder, COLLAPSE_FROM / PER_CLASS), "collapse");
    assert_eq!(fallen(Bug::Guessing, CHANCE_FROM / PER_CLASS), "chance");
}

#[test]
fn a_warning_does_not_stop_and_off_is_off() {
    // Three of the four steps are checked, but the canary warns only once.
    let warnings = run(Bug::EmaWithoutHead, 1, CanaryMode::Warn).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("canary `ema`"), "{warnings:?}");
    assert!(run(Bug::EmaWithoutHead, 1, CanaryMode::Off).unwrap().is_empty());
}

/// Ten steps of a small network by `actual` at the rate `lr`, while the canary expects `claimed` at 0.1.
fn update(
    mut actual: ModuleOptimizer,
    claimed: OptimizerConfig,
    lr: f64,
) -> Result<(), PretrainError> {
    let device = Device::flex().autodiff();
    let mut rng = ssl_backdoor_rng::keyed(1, ssl_backdoor_model::purpose::INIT, 0, 0, 0);
    let mut net = Mlp::new(&[3, 4, 2], &mut rng, &device);
    let shadow = Shadow::new(claimed, 0.01, WeightDecayScope::All);
    let mut canaries = Canaries::new(CanaryMode::Stop, 10, shadow);
    for step in 0..10 {
        let x = Tensor::<2>::from_data([[0.3, -0.2, 0.9 - 0.1 * step as f32]], &device);
        let loss = net.forward(x).powi_scalar(2).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        let progress = Progress { seed: 1, step, steps: 10, epoch: 0, epochs: 1, seen: step };
        let step = |net, grads| actual.step(lr, net, grads);
        net = canaries.update(0.1, net, grads, &progress, step)?;
    }
    Ok(())
}

#[test]
fn dampening_or_another_learning_rate_is_called() {
    let all = [
        OptimizerConfig::sgd(),
        OptimizerConfig::Lars(LarsConfig::new(0.02, false)),
        OptimizerConfig::Lars(LarsConfig { scaled: LarsScope::All, ..LarsConfig::new(0.02, true) }),
        OptimizerConfig::Lars(LarsConfig { norm_of_sum: true, ..LarsConfig::new(0.02, false) }),
        OptimizerConfig::Lars(LarsConfig { lr_in_momentum: true, ..LarsConfig::new(0.02, false) }),
        OptimizerConfig::Adam { betas: [0.9, 0.999] },
        OptimizerConfig::AdamW { betas: [0.9, 0.95] },
    ];
    let device = Device::flex().autodiff();
    let mut rng = ssl_backdoor_rng::keyed(1, ssl_backdoor_model::purpose::INIT, 0, 0, 0);
    let like = Mlp::new(&[3, 4, 2], &mut rng, &device);
    for claimed in all {
        let actual = || claimed.build(0.01, WeightDecayScope::All, &like);
        update(actual(), claimed, 0.1).unwrap();
        let message = update(actual(), claimed, 0.11).unwrap_err().to_string();
        assert!(message.contains("learning-rate") && message.contains("layers.0"), "{message}");
        let undecayed = claimed.build(0.0, WeightDecayScope::All, &like);
        assert!(update(undecayed, claimed, 0.1).is_err());
    }
    let decay = burn::optim::decay::WeightDecayConfig { penalty: 0.01 };
    // Burn's own default has a dampening of 0.1.
    let dampened = SgdConfig::new()
        .with_momentum(Some(MomentumConfig::new().with_momentum(0.9)))
        .with_weight_decay(Some(decay))
        .init();
    let message = update(dampened, OptimizerConfig::sgd(), 0.1).unwrap_err().to_string();
    assert!(message.contains("learning-rate"), "{message}");
}
