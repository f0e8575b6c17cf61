//! Is the learning rate really applied? A shadow of the optimiser follows a few coordinates in double
//! precision and says where they should go.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use ssl_backdoor_model::{OnParameter, for_each_parameter};

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

/// What a step may differ by from the expected one, as a share of it: gradients and states are in
/// single precision.
const STEP_ERROR: f64 = 1e-3;

impl Shadow {
    pub fn new(optimizer: OptimizerConfig, weight_decay: f64, decayed: WeightDecayScope) -> Self {
        Self { optimizer, weight_decay, decayed, steps: 0, followed: Vec::new() }
    }

    /// The weight decay of the next step, where it changes.
    pub fn decay(&mut self, weight_decay: f64) {
        self.weight_decay = weight_decay;
    }

    /// Looks at weights and gradients before a step of rate `lr`.
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
        let normed = matches!(self.optimizer, OptimizerConfig::Lars { .. });
        let found = Look::at(self.paths(), Some(grads), module, normed);
        for (followed, seen) in self.followed.iter_mut().zip(found) {
            let decays = self.decayed.includes(&followed.path, seen.rank);
            let decay = if decays { self.weight_decay } else { 0.0 };
            followed.coordinates.resize(seen.weights.len(), Coordinate::default());
            let values = seen.weights.iter().zip(&seen.gradients);
            for (coordinate, (&weight, &gradient)) in followed.coordinates.iter_mut().zip(values) {
                coordinate.before = weight;
                let decayed = gradient + decay * weight;
                let gradient = match self.optimizer {
                    OptimizerConfig::Lars { trust, clip, .. } if seen.rank > 1 => {
                        decayed * lars_scale(seen.norms, [lr, decay, trust], clip)
                    }
                    OptimizerConfig::AdamW { .. } => gradient,
                    _ => decayed,
                };
                coordinate.expected = weight
                    + coordinate.step(&self.optimizer, self.steps, [lr, decay, weight, gradient]);
            }
        }
    }

    /// Looks at the weights after the step, and says what is wrong with them.
    pub fn after<M: Module>(&self, module: &M) -> Option<String> {
        let found = Look::at(self.paths(), None, module, false);
        for (followed, seen) in self.followed.iter().zip(found) {
            for (coordinate, &weight) in followed.coordinates.iter().zip(&seen.weights) {
                let Coordinate { before, expected, .. } = *coordinate;
                let moved = expected - before;
                let allowed = 4.0 * f64::from(f32::EPSILON) * (before.abs() + expected.abs())
                    + STEP_ERROR * moved.abs();
                // The square of a tiny gradient is nothing in single precision.
                if coordinate.second > 0.0 && coordinate.second < f64::from(f32::MIN_POSITIVE) * 1e6
                {
                    continue;
                }
                let off = (weight - expected).abs();
                // Not a number is the gradient's or the loss's affair.
                if off > allowed {
                    return Some(format!(
                        "a weight of {} went from {before:e} by {:e} where {:?} says {moved:e}",
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
    /// By how much the weight is to move; a decay that is coupled to the gradient is in it already.
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
            OptimizerConfig::Sgd { momentum } | OptimizerConfig::Lars { momentum, .. } => {
                self.first = momentum * self.first + gradient;
                -lr * self.first
            }
            OptimizerConfig::Adam { betas } => adam(betas, gradient),
            OptimizerConfig::AdamW { betas } => adam(betas, gradient) - lr * decay * weight,
        }
    }
}

/// What LARS multiplies a gradient by, from the norms of weight and gradient.
fn lars_scale([weight, gradient]: [f64; 2], [lr, decay, trust]: [f64; 3], clip: bool) -> f64 {
    if weight == 0.0 || gradient == 0.0 {
        return 1.0;
    }
    let scale = trust * weight / (gradient + decay * weight);
    if clip { (scale / lr).min(1.0) } else { scale }
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
    /// Of all weights and all gradients, if they are asked for.
    norms: [f64; 2],
}

/// Takes samples of the parameters at some paths.
struct Look<'a> {
    paths: Vec<&'a str>,
    grads: Option<&'a GradientsParams>,
    normed: bool,
    found: Vec<Seen>,
}

impl<'a> Look<'a> {
    fn at<M: Module>(
        paths: Vec<&'a str>,
        grads: Option<&'a GradientsParams>,
        module: &M,
        normed: bool,
    ) -> Vec<Seen> {
        let found = paths.iter().map(|_| Seen::default()).collect();
        let mut look = Self { paths, grads, normed, found };
        for_each_parameter(module, &mut look);
        look.found
    }
}

fn norm<const D: usize>(tensor: &Tensor<D>) -> f64 {
    f64::from(tensor.clone().powi_scalar(2).sum().sqrt().into_scalar::<f32>())
}

fn host(samples: Tensor<1>) -> Vec<f64> {
    samples.into_data().iter::<f64>().collect()
}

impl OnParameter for Look<'_> {
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let Some(i) = self.paths.iter().position(|wanted| *wanted == path) else { return };
        let gradient = self.grads.and_then(|grads| grads.get::<D>(param.id));
        let weight = param.val().inner();
        let norms = match &gradient {
            Some(gradient) if self.normed => [norm(&weight), norm(gradient)],
            _ => [0.0; 2],
        };
        self.found[i] = Seen {
            rank: D,
            norms,
            weights: host(sample(weight)),
            gradients: gradient.map(|g| host(sample(g))).unwrap_or_default(),
        };
    }
}
