//! The optimisers of the protocol, with PyTorch's arithmetic.

use burn::module::{Module, Param, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, Optimizer};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::{Lars, LarsConfig, OnParameter, for_each_parameter};

use crate::sgd::Sgd;
use crate::weight_decay::DecaySchedule;

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// SGD with momentum: no dampening, no Nesterov, decay added to the gradient.
    Sgd {
        /// Momentum.
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
        momentum: f64,
    },
    /// Adam, decay added to the gradient (coupled).
    Adam {
        /// Momenta of the gradient and of its square. Range: 0 to below 1.
        #[schemars(inner(range(min = 0.0, max = 1.0)))]
        betas: [f64; 2],
    },
    /// LARS (You et al., arXiv 1708.03888): SGD with momentum; gradients are scaled for each parameter by the ratio of
    /// the norms of weight and gradient.
    Lars(LarsConfig),
    /// AdamW, decoupled weight decay.
    AdamW {
        /// Momenta of the gradient and of its square. Range: 0 to below 1.
        #[schemars(inner(range(min = 0.0, max = 1.0)))]
        betas: [f64; 2],
    },
}

/// ε of Adam and AdamW, as in PyTorch; Burn's own default is 1e-5.
pub(crate) const EPSILON: f64 = 1e-8;

impl OptimizerConfig {
    /// SGD with momentum 0.9, which MoCo v2, MSF, Jigsaw, RotNet, SimCLR and SimSiam use.
    pub fn sgd() -> Self {
        Self::Sgd { momentum: 0.9 }
    }

    /// Whether weight decay is decoupled from the gradients.
    pub(crate) fn decays_apart(&self) -> bool {
        matches!(self, Self::AdamW { .. })
    }

    pub(crate) fn check(&self) -> Result<(), OutOfRange> {
        let fits = |beta: f64| (0.0..1.0).contains(&beta);
        match *self {
            Self::Sgd { momentum } => {
                require(fits(momentum), "optimizer.momentum", momentum, "0 to below 1")
            }
            Self::Lars(LarsConfig { momentum, trust, .. }) => {
                require(fits(momentum), "optimizer.momentum", momentum, "0 to below 1")?;
                let fits = trust > 0.0 && trust <= 1.0;
                require(fits, "optimizer.trust", trust, "above 0, at most 1")
            }
            Self::Adam { betas } | Self::AdamW { betas } => {
                let value = format!("{betas:?}");
                require(betas.into_iter().all(fits), "optimizer.betas", value, "0 to below 1")
            }
        }
    }

    /// The optimiser of `module`'s parameters, of which those in the scope `decayed` decay.
    pub fn build<M: Module>(
        &self,
        weight_decay: f64,
        decayed: WeightDecayScope,
        module: &M,
    ) -> ModuleOptimizer {
        let spared = decayed.spared(module);
        match *self {
            Self::Sgd { momentum } => {
                grouped(|weight_decay| Sgd { momentum, weight_decay }, weight_decay, spared)
            }
            Self::Lars(config) => {
                grouped(|weight_decay| Lars { config, weight_decay }, weight_decay, spared)
            }
            Self::Adam { betas: [beta_1, beta_2] } => {
                let config = AdamConfig::new()
                    .with_beta_1(beta_1 as f32)
                    .with_beta_2(beta_2 as f32)
                    .with_epsilon(EPSILON as f32);
                let of = |penalty: f64| {
                    let penalty = WeightDecayConfig { penalty: penalty as f32 };
                    config.clone().with_weight_decay(Some(penalty)).build()
                };
                grouped(of, weight_decay, spared)
            }
            Self::AdamW { betas } => {
                let of = |decay: f64| adamw(betas).with_weight_decay(decay as f32).build();
                grouped(of, weight_decay, spared)
            }
        }
    }

    /// The same with a weight decay that follows `schedule`. For AdamW only: others are built without decay.
    pub(crate) fn build_decaying<M: Module>(
        &self,
        schedule: &DecaySchedule,
        decayed: WeightDecayScope,
        module: &M,
    ) -> ModuleOptimizer {
        let Self::AdamW { betas } = *self else {
            return self.build(0.0, decayed, module);
        };
        let plain = adamw(betas).with_weight_decay(0.0).build();
        let all = ModuleOptimizer::from(schedule.around(plain.clone()));
        match decayed.spared(module) {
            spared if spared.is_empty() => all,
            spared => all.with_group(ParamGroup::from_paths(spared), plain, None),
        }
    }
}

fn adamw([beta_1, beta_2]: [f64; 2]) -> AdamWConfig {
    AdamWConfig::new()
        .with_beta_1(beta_1 as f32)
        .with_beta_2(beta_2 as f32)
        .with_epsilon(EPSILON as f32)
}

/// One optimiser for all parameters, without decay for those at the paths `spared`.
fn grouped<O: Optimizer>(
    of: impl Fn(f64) -> O,
    weight_decay: f64,
    spared: Vec<String>,
) -> ModuleOptimizer {
    let all = ModuleOptimizer::from(of(weight_decay));
    if spared.is_empty() {
        return all;
    }
    all.with_group(ParamGroup::from_paths(spared), of(0.0), None)
}

/// Which parameters decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightDecayScope {
    /// All, including batch norms and biases.
    All,
    /// All but biases and those with `bn` in their name, as in the reference code of Jigsaw; batch norms of shortcuts are
    /// called `downsample.1` and decay.
    NoBiasNoBn,
    /// All but vectors.
    Matrices,
}

impl WeightDecayScope {
    /// Whether the parameter with this path and rank decays.
    pub(crate) fn includes(self, path: &str, rank: usize) -> bool {
        match self {
            Self::All => true,
            Self::NoBiasNoBn => !path.ends_with("bias") && !path.contains("bn"),
            Self::Matrices => rank > 1,
        }
    }

    /// The paths of the parameters that do not decay.
    fn spared<M: Module>(self, module: &M) -> Vec<String> {
        let mut spared = Spared(self, Vec::new());
        for_each_parameter(module, &mut spared);
        spared.1
    }
}

/// Collects the paths of the parameters that do not decay.
struct Spared(WeightDecayScope, Vec<String>);

impl OnParameter for Spared {
    fn parameter<const D: usize>(&mut self, path: &str, _param: &Param<Tensor<D>>) {
        if !self.0.includes(path, D) {
            self.1.push(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::GradientsParams;
    use burn::tensor::Device;
    use ssl_backdoor_model::purpose;
    use ssl_backdoor_model::{Encoder, EncoderConfig, Stem};
    use ssl_backdoor_rng::keyed;

    /// With zero gradients, a step shrinks exactly the parameters that decay.
    #[test]
    fn spared_parameters_do_not_decay() {
        #[derive(Default)]
        struct Values(Vec<(String, f32)>);
        impl OnParameter for Values {
            fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
                let sum = param.val().inner().powi_scalar(2).sum().into_scalar::<f32>();
                self.0.push((path.to_owned(), sum));
            }
        }
        let device = Device::flex().autodiff();
        let rng = || keyed(1, purpose::INIT, 0, 0, 0);
        let config = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        let values = |net: &Encoder| {
            let mut values = Values::default();
            for_each_parameter(net, &mut values);
            values.0
        };
        for decayed in
            [WeightDecayScope::All, WeightDecayScope::NoBiasNoBn, WeightDecayScope::Matrices]
        {
            for optimizer in [
                OptimizerConfig::sgd(),
                OptimizerConfig::Lars(LarsConfig::new(0.02, false)),
                OptimizerConfig::AdamW { betas: [0.9, 0.95] },
            ] {
                let net = config.init(&mut rng(), &device);
                let before = values(&net);
                let images = Tensor::ones([2, 3, 8, 8], &device);
                let loss = net.forward(images).sum().mul_scalar(0.0);
                let grads = GradientsParams::from_grads(loss.backward(), &net);
                let net = optimizer.build(0.1, decayed, &net).step(0.5, net, grads);
                let mut shrunk = 0;
                for ((path, before), (_, after)) in before.into_iter().zip(values(&net)) {
                    let learns = before > 0.0 && !path.contains("running");
                    let rank =
                        if path.contains("conv") || path.ends_with("0.weight") { 4 } else { 1 };
                    let decays = learns && decayed.includes(&path, rank);
                    assert_eq!(after < before, decays, "{decayed:?} {optimizer:?} {path}");
                    shrunk += usize::from(decays);
                }
                assert_eq!(
                    shrunk,
                    match decayed {
                        WeightDecayScope::All => 40,
                        WeightDecayScope::NoBiasNoBn => 23,
                        WeightDecayScope::Matrices => 20,
                    }
                );
            }
        }
    }
}
