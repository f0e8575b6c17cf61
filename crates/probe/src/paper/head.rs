//! One classifier of a probe: a norm, and a linear layer.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use rand::Rng;
use ssl_backdoor_model::{init, l2_normalize};

use super::rules::{Norm, PaperProbeConfig};

/// Weight of a batch's statistics in the running statistics.
const MOMENTUM: f32 = 0.1;
/// Added to the variance before the square root when features are standardised, as in the reference.
const EPSILON: f32 = 1e-5;

/// Mean and variance per channel, `[1, channels, 1]`.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    mean: Tensor<3>,
    variance: Tensor<3>,
}

/// The normalisation before the linear layer. It has no parameters trained by gradient.
#[derive(Debug, Clone)]
pub(super) struct Normed {
    norm: Norm,
    statistics: Option<Statistics>,
}

impl Normed {
    pub(super) fn new(norm: Norm) -> Self {
        Self { norm, statistics: None }
    }

    /// Computes the statistics of the labelled features `[images, channels, 1]`, for a norm that needs them.
    pub(super) fn standardise(&mut self, labelled: Tensor<3>) {
        self.statistics = Some(statistics(l2(labelled)));
    }

    /// Normalises a training batch `[batch, channels, places]`; batch norm uses the batch's statistics and updates
    /// the running ones.
    pub(super) fn train(&mut self, x: Tensor<3>) -> Tensor<3> {
        let Norm::Batch { epsilon } = self.norm else { return self.eval(x) };
        let [batch, _, places] = x.dims();
        let n = (batch * places) as f32;
        let now = statistics(x.clone());
        let biased = now.variance.clone().mul_scalar((n - 1.0) / n);
        let old = self.statistics.take().unwrap_or_else(|| Statistics {
            mean: now.mean.zeros_like(),
            variance: now.variance.ones_like(),
        });
        let mix = |old: Tensor<3>, now: Tensor<3>| {
            old.mul_scalar(1.0 - MOMENTUM) + now.mul_scalar(MOMENTUM)
        };
        let mean = now.mean.clone();
        self.statistics = Some(Statistics {
            mean: mix(old.mean, now.mean),
            variance: mix(old.variance, now.variance),
        });
        (x - mean) / biased.add_scalar(epsilon).sqrt()
    }

    /// Normalises evaluation features.
    pub(super) fn eval(&self, x: Tensor<3>) -> Tensor<3> {
        let (x, epsilon) = match self.norm {
            Norm::Nothing => return x,
            Norm::L2Standard => (l2(x), EPSILON),
            Norm::Batch { epsilon } => (x, epsilon),
        };
        let Some(Statistics { mean, variance }) = &self.statistics else { return x };
        (x - mean.clone()) / variance.clone().add_scalar(epsilon).sqrt()
    }
}

/// L2-normalises the rows of `[batch, channels, 1]`.
fn l2(x: Tensor<3>) -> Tensor<3> {
    let shape = x.dims();
    l2_normalize(x.flatten(1, 2)).reshape(shape)
}

/// Mean and unbiased variance per channel, over images and places.
fn statistics(x: Tensor<3>) -> Statistics {
    let [batch, _, places] = x.dims();
    let mean = x.clone().mean_dim(0).mean_dim(2);
    let squares = (x - mean.clone()).powi_scalar(2).sum_dim(0).sum_dim(2);
    let variance = squares.div_scalar((batch * places).max(2) as f32 - 1.0);
    Statistics { mean, variance }
}

/// The trainable part of a head.
#[derive(Module, Debug)]
pub(super) struct Classifier {
    pub(super) linear: Linear,
}

impl Classifier {
    /// A linear layer with `dim` inputs, initialised by the rules, on an autodiff device.
    pub(super) fn new(
        rules: &PaperProbeConfig,
        dim: usize,
        classes: usize,
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        let mut linear = LinearConfig::new(dim, classes).init(device);
        match rules.weight_std {
            None => {
                linear.weight = init::linear_uniform([dim, classes], dim, rng, device);
                linear.bias = Some(init::linear_uniform([classes], dim, rng, device));
            }
            Some(std) => {
                let normals = init::normals(dim * classes, rng);
                let values = normals.into_iter().map(|v| v * std as f32).collect();
                let weight = init::matrix(values, classes, device).require_grad();
                linear.weight = linear.weight.map(|_| weight);
                linear.bias = linear.bias.map(|b| b.map(|b| b.zeros_like().require_grad()));
            }
        }
        Self { linear }
    }
}
