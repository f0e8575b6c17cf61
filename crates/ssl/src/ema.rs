//! Checks that a target network follows its online network.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};
use ssl_backdoor_model::{OnParameter, for_each_parameter, is_running_statistic};

/// When a method moves its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmaTiming {
    /// In `before_step`: MoCo v2, MoCo v3, MSF.
    BeforeStep,
    /// In `after_step`: BYOL, DINO, CompReSS.
    AfterStep,
}

/// Samples of an online and a target network, and how the target should move.
#[derive(Debug, Clone)]
pub struct Ema {
    online: Samples,
    target: Samples,
    momentum: f64,
    pub(crate) timing: EmaTiming,
}

impl Ema {
    /// `online` and `target` are instances of the same network. The target becomes `momentum · target + (1 −
    /// momentum) · online` at `timing`.
    pub fn new<M: Module>(online: &M, target: &M, momentum: f64, timing: EmaTiming) -> Self {
        Self { online: Samples::of(online), target: Samples::of(target), momentum, timing }
    }

    /// A diagnosis if the target `after` the update is wrong.
    pub(crate) fn wrong(&self, after: &Ema) -> Option<String> {
        if let Some(path) = &after.target.tracked {
            return Some(format!("the target's parameter {path} requires a gradient"));
        }
        let values = self.online.values.iter().zip(&self.target.values).zip(&after.target.values);
        for (i, ((&online, &target), &after)) in values.enumerate() {
            let [online, target, after] = [online, target, after].map(f64::from);
            let expected = self.momentum * target + (1.0 - self.momentum) * online;
            // Allows a few roundings in single precision and no more, so that a skipped update is noticed.
            let allowed = 4.0 * f64::from(f32::EPSILON) * (online.abs() + target.abs());
            let off = (after - expected).abs();
            if off.is_nan() || off > allowed {
                let path = &self.target.paths[i / PER_PARAMETER];
                return Some(format!(
                    "the target's parameter {path} does not follow the EMA: it was {target}, is \
                     {after} and should be {expected} (momentum {})",
                    self.momentum
                ));
            }
        }
        None
    }
}

/// Number of values sampled from each parameter.
const PER_PARAMETER: usize = 4;

/// Some values of every parameter, except running statistics.
#[derive(Debug, Clone)]
struct Samples {
    paths: Vec<String>,
    values: Vec<f32>,
    /// The first parameter that requires a gradient.
    tracked: Option<String>,
}

impl Samples {
    fn of<M: Module>(module: &M) -> Self {
        let mut sampler = Sampler::default();
        for_each_parameter(module, &mut sampler);
        let values = match sampler.taken.is_empty() {
            true => Vec::new(),
            false => Tensor::cat(sampler.taken, 0).into_data().iter::<f32>().collect(),
        };
        Self { paths: sampler.paths, values, tracked: sampler.tracked }
    }
}

#[derive(Default)]
struct Sampler {
    paths: Vec<String>,
    taken: Vec<Tensor<1>>,
    tracked: Option<String>,
}

/// The values at [`PER_PARAMETER`] places of a tensor.
pub(crate) fn sample<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let count = tensor.shape().num_elements();
    let places: Vec<i64> =
        (0..PER_PARAMETER).map(|i| (i * (count - 1) / (PER_PARAMETER - 1)) as i64).collect();
    let places = TensorData::new(places, [PER_PARAMETER]);
    let places = Tensor::<1, Int>::from_data(places, &tensor.device());
    tensor.reshape([count]).select(0, places)
}

impl OnParameter for Sampler {
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if is_running_statistic(path) {
            return;
        }
        let value = param.val();
        if value.is_require_grad() {
            self.tracked.get_or_insert_with(|| path.to_owned());
        }
        self.taken.push(sample(value.inner()));
        self.paths.push(path.to_owned());
    }
}
