//! The optimiser of a probe.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, ModuleOptimizer, SgdConfig};
use ssl_backdoor_model::{Lars, LarsConfig};

/// The optimiser of a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Optimizer {
    Sgd { nesterov: bool, weight_decay: f32 },
    Adam { weight_decay: f32 },
    Lars,
}

impl Optimizer {
    /// A new optimiser.
    pub(crate) fn build(self) -> ModuleOptimizer {
        let decay = |penalty| Some(WeightDecayConfig::new(penalty));
        match self {
            Self::Sgd { nesterov, weight_decay } => {
                let momentum = MomentumConfig::new()
                    .with_momentum(0.9)
                    .with_dampening(0.0)
                    .with_nesterov(nesterov);
                let config = SgdConfig::new()
                    .with_momentum(Some(momentum))
                    .with_weight_decay(decay(weight_decay));
                config.init()
            }
            Self::Adam { weight_decay } => {
                let config =
                    AdamConfig::new().with_epsilon(1e-8).with_weight_decay(decay(weight_decay));
                config.init()
            }
            // Without weight decay; the biases are not scaled (docs/protocol.md, 2.6).
            Self::Lars => ModuleOptimizer::from(Lars {
                config: LarsConfig::new(0.001, false),
                weight_decay: 0.0,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Param, ParamId};
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    /// Two steps of LARS on a linear layer, worked by hand: trust 0.001, momentum 0.9, the bias not scaled.
    #[test]
    fn steps_of_lars_worked_by_hand() {
        let device = Device::flex().autodiff();
        let mut linear: Linear = LinearConfig::new(2, 1).init(&device);
        let weight = Tensor::from_data([[3.0f32], [4.0]], &device).require_grad();
        linear.weight = Param::initialized(ParamId::new(), weight);
        let bias = Tensor::from_data([1.0f32], &device).require_grad();
        linear.bias = Some(Param::initialized(ParamId::new(), bias));
        let mut lars = Optimizer::Lars.build();
        // The output is 2·w₀ + b: gradients (2, 0) and 1, norms 5 and 2.
        for (w, b) in [(3.0 - 0.005, 0.0), (3.0 - 0.005 - 0.9 * 0.005 - 0.004_996, -1.9)] {
            let x = Tensor::<2>::from_data([[2.0f32, 0.0]], &device);
            let grads = GradientsParams::from_grads(linear.forward(x).sum().backward(), &linear);
            linear = lars.step(1.0, linear, grads);
            let got: Vec<f32> = linear.weight.val().into_data().iter::<f32>().collect();
            assert!((got[0] - w).abs() < 1e-5 && got[1] == 4.0, "{got:?} {w}");
            let bias = linear.bias.as_ref().unwrap().val().into_scalar::<f32>();
            assert!((bias - b).abs() < 1e-6, "{bias} {b}");
        }
    }
}
