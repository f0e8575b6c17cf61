//! Checks that the learning rate is really applied: a shadow of the optimiser follows a few coordinates in double
//! precision and computes where they should go.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use ssl_backdoor_model::{LarsConfig, OnParameter, for_each_parameter};

use crate::ema::sample;
use crate::optimizer::{EPSILON, OptimizerConfig, WeightDecayScope};

/// The shadow: part of a checkpoint, as the optimiser's own state is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Shadow {
    optimizer: OptimizerConfig,
    weight_decay: f64,
    decayed: WeightDecayScope,
    /// Steps done.
    steps: i32,
    /// Parameters that are followed: the first, the middle and the last that learn.
    followed: Vec<Followed>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Followed {
    path: String,
    coordinates: Vec<Coordinate>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Coordinate {
    /// SGD's velocity, or Adam's mean of gradients.
    first: f64,
    /// Adam's mean of squared gradients.
    second: f64,
    before: f64,
    expected: f64,
}

/// Allowed difference of a step from the expected one, as a share of it: gradients and states are in single
/// precision.
const STEP_ERROR: f64 = 1e-3;

impl Shadow {
    pub fn new(optimizer: OptimizerConfig, weight_decay: f64, decayed: WeightDecayScope) -> Self {
        Self { optimizer, weight_decay, decayed, steps: 0, followed: Vec::new() }
    }

    /// Sets the weight decay of the next step, if it follows a schedule.
    pub fn decay(&mut self, weight_decay: f64) {
        self.weight_decay = weight_decay;
    }

    /// Reads weights and gradients before a step with learning rate `lr`, and computes where the weights should go.
    pub fn before<M: Module>(&mut self, lr: f64, module: &M, grads: &GradientsParams) {
        if self.followed.is_empty() {
            let mut learning = Learning { grads, paths: Vec::new() };
            for_each_parameter(module, &mut learning);
            let paths = learning.paths;
            let mut chosen = vec![0, paths.len() / 2, paths.len().saturating_sub(1)];
            chosen.dedup();
            self.followed = chosen
                .into_iter()
                .filter_map(|i| paths.get(i).cloned())
                .map(|path| Followed { path, coordinates: Vec::new() })
                .collect();
        }
        self.steps += 1;
        let norms = match self.optimizer {
            OptimizerConfig::Lars(LarsConfig { norm_of_sum, .. }) => {
                let Self { weight_decay, decayed, .. } = *self;
                Some(Norms { weight_decay, decayed, norm_of_sum })
            }
            _ => None,
        };
        let found = Look::at(self.paths(), Some(grads), module, norms);
        for (followed, seen) in self.followed.iter_mut().zip(found) {
            let decays = self.decayed.includes(&followed.path, seen.rank);
            let decay = if decays { self.weight_decay } else { 0.0 };
            followed.coordinates.resize(seen.weights.len(), Coordinate::default());
            let values = seen.weights.iter().zip(&seen.gradients);
            for (coordinate, (&weight, &gradient)) in followed.coordinates.iter_mut().zip(values) {
                coordinate.before = weight;
                let decayed = gradient + decay * weight;
                let gradient = match self.optimizer {
                    OptimizerConfig::Lars(config) if config.scaled.includes(seen.rank) => {
                        decayed * lars_scale(&config, seen.norms, [lr, decay])
                    }
                    OptimizerConfig::AdamW { .. } => gradient,
                    _ => decayed,
                };
                coordinate.expected = weight
                    + coordinate.step(&self.optimizer, self.steps, [lr, decay, weight, gradient]);
            }
        }
    }

    /// Reads the weights after the step. Returns a diagnosis if they are not where they should be.
    pub fn after<M: Module>(&self, module: &M) -> Option<String> {
        let found = Look::at(self.paths(), None, module, None);
        for (followed, seen) in self.followed.iter().zip(found) {
            for (coordinate, &weight) in followed.coordinates.iter().zip(&seen.weights) {
                let Coordinate { before, expected, .. } = *coordinate;
                let moved = expected - before;
                let allowed = 4.0 * f64::from(f32::EPSILON) * (before.abs() + expected.abs())
                    + STEP_ERROR * moved.abs();
                // The square of a tiny gradient underflows in single precision.
                if coordinate.second > 0.0 && coordinate.second < f64::from(f32::MIN_POSITIVE) * 1e6
                {
                    continue;
                }
                let off = (weight - expected).abs();
                // NaN compares false: it is left to the checks of the gradient and the loss.
                if off > allowed {
                    return Some(format!(
                        "a weight of {} changed from {before:e} by {:e}, but {:?} gives {moved:e}",
                        followed.path,
                        weight - before,
                        self.optimizer,
                    ));
                }
            }
        }
        None
    }

    fn paths(&self) -> Vec<&str> {
        self.followed.iter().map(|followed| followed.path.as_str()).collect()
    }
}

impl Coordinate {
    /// The expected change of the weight. `gradient` already includes a coupled decay.
    fn step(
        &mut self,
        optimizer: &OptimizerConfig,
        steps: i32,
        [lr, decay, weight, gradient]: [f64; 4],
    ) -> f64 {
        let mut adam = |betas: [f64; 2], gradient: f64| {
            let [first, second] = betas;
            self.first = first * self.first + (1.0 - first) * gradient;
            self.second = second * self.second + (1.0 - second) * gradient * gradient;
            let mean = self.first / (1.0 - first.powi(steps));
            let root = (self.second / (1.0 - second.powi(steps))).sqrt();
            -lr * mean / (root + EPSILON)
        };
        match *optimizer {
            OptimizerConfig::Lars(LarsConfig { momentum, lr_in_momentum: true, .. }) => {
                self.first = momentum * self.first + lr * gradient;
                -self.first
            }
            OptimizerConfig::Sgd { momentum }
            | OptimizerConfig::Lars(LarsConfig { momentum, .. }) => {
                self.first = momentum * self.first + gradient;
                -lr * self.first
            }
            OptimizerConfig::Adam { betas } => adam(betas, gradient),
            OptimizerConfig::AdamW { betas } => adam(betas, gradient) - lr * decay * weight,
        }
    }
}

/// The factor by which LARS scales a gradient, from the two norms that [`Norms`] describes.
fn lars_scale(config: &LarsConfig, [weight, moving]: [f64; 2], [lr, decay]: [f64; 2]) -> f64 {
    if weight == 0.0 || moving == 0.0 {
        return 1.0;
    }
    let divisor = if config.norm_of_sum { moving } else { moving + decay * weight };
    let scale = config.trust * weight / divisor;
    if config.clip { (scale / lr).min(1.0) } else { scale }
}

/// The paths of all parameters with a gradient.
struct Learning<'a> {
    grads: &'a GradientsParams,
    paths: Vec<String>,
}

impl OnParameter for Learning<'_> {
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if self.grads.get::<D>(param.id).is_some() {
            self.paths.push(path.to_owned());
        }
    }
}

/// Samples of one parameter.
#[derive(Default)]
struct Seen {
    rank: usize,
    weights: Vec<f64>,
    gradients: Vec<f64>,
    /// Norms of all weights, and of all gradients or their sums with the decay; zeros if they were not requested.
    norms: [f64; 2],
}

/// What the shadow of LARS needs besides samples: the norms of a weight and of its gradient.
#[derive(Clone, Copy)]
struct Norms {
    weight_decay: f64,
    decayed: WeightDecayScope,
    /// Whether to take the norm of gradient plus decay instead of that of the gradient.
    norm_of_sum: bool,
}

/// Rank of a parameter, and on the device samples of its weights, samples of its gradients and the two norms.
type Taken = (usize, [Option<Tensor<1>>; 3]);

/// Samples the parameters at some paths.
struct Look<'a> {
    paths: Vec<&'a str>,
    grads: Option<&'a GradientsParams>,
    norms: Option<Norms>,
    /// One entry for each path.
    taken: Vec<Option<Taken>>,
}

impl<'a> Look<'a> {
    fn at<M: Module>(
        paths: Vec<&'a str>,
        grads: Option<&'a GradientsParams>,
        module: &M,
        norms: Option<Norms>,
    ) -> Vec<Seen> {
        let taken = paths.iter().map(|_| None).collect();
        let mut look = Self { paths, grads, norms, taken };
        for_each_parameter(module, &mut look);
        seen(look.taken)
    }
}

/// Copies the samples to the host, in one transfer.
fn seen(taken: Vec<Option<Taken>>) -> Vec<Seen> {
    let all = taken.iter().flatten().flat_map(|(_, parts)| parts.iter().flatten().cloned());
    let all: Vec<Tensor<1>> = all.collect();
    let mut values = match all.is_empty() {
        true => Vec::new(),
        false => Tensor::cat(all, 0).into_data().iter::<f64>().collect(),
    }
    .into_iter();
    let mut next = |part: Option<Tensor<1>>| -> Vec<f64> {
        let count = part.map_or(0, |part| part.dims()[0]);
        values.by_ref().take(count).collect()
    };
    let of_one = |one: Option<Taken>| {
        let Some((rank, [weights, gradients, norms])) = one else { return Seen::default() };
        let (weights, gradients) = (next(weights), next(gradients));
        let norms = next(norms).try_into().unwrap_or([0.0; 2]);
        Seen { rank, weights, gradients, norms }
    };
    taken.into_iter().map(of_one).collect()
}

fn norm<const D: usize>(tensor: &Tensor<D>) -> Tensor<1> {
    tensor.clone().powi_scalar(2).sum().sqrt()
}

impl OnParameter for Look<'_> {
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let Some(i) = self.paths.iter().position(|wanted| *wanted == path) else { return };
        let gradient = self.grads.and_then(|grads| grads.get::<D>(param.id));
        let weight = param.val().inner();
        let norms = self.norms.zip(gradient.clone()).map(|(norms, gradient)| {
            let Norms { weight_decay, decayed, norm_of_sum } = norms;
            let decays = norm_of_sum && decayed.includes(path, D);
            let moving = match decays {
                true => gradient + weight.clone().mul_scalar(weight_decay),
                false => gradient,
            };
            Tensor::cat(vec![norm(&weight), norm(&moving)], 0)
        });
        self.taken[i] = Some((D, [Some(sample(weight)), gradient.map(sample), norms]));
    }
}
