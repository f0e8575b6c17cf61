//! LARS, shared by pretraining, linear probes and fine-tuning: SGD with momentum that scales the step on each matrix
//! to a share of the matrix's norm.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::velocity::Velocity;

/// Settings of LARS (You et al., arXiv 1708.03888). Gradients, decay included, are scaled for each parameter by
/// `trust · |weight| / (|gradient| + decay · |weight|)`; the scale is 1 where a norm is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LarsConfig {
    /// Momentum.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// Share of a weight's norm that a step with learning rate 1 moves.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub trust: f64,
    /// Limits the scale to 1 / (learning rate), so that no step is larger than that of SGD with learning rate 1.
    pub clip: bool,
    /// Which parameters are scaled. Default: `"matrices"`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scaled: LarsScope,
    /// Uses the scale `trust · |weight| / |gradient + decay · weight|`, as the official code of SimCLR v2 and MoCo v3.
    /// Default: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm_of_sum: bool,
    /// Multiplies a gradient by the learning rate of its step before it enters the momentum, as the official code of
    /// SimCLR v2. Otherwise the learning rate multiplies the momentum, as in PyTorch. The two differ while the learning
    /// rate changes. Default: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lr_in_momentum: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl LarsConfig {
    /// Momentum 0.9, matrices scaled by the formula of the paper.
    pub const fn new(trust: f64, clip: bool) -> Self {
        Self {
            momentum: 0.9,
            trust,
            clip,
            scaled: LarsScope::Matrices,
            norm_of_sum: false,
            lr_in_momentum: false,
        }
    }
}

/// Which parameters LARS scales; the others take plain steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LarsScope {
    /// All but vectors (biases and the parameters of norms).
    #[default]
    Matrices,
    /// All, as LARC in NVIDIA's apex.
    All,
    /// None: SGD with momentum.
    None,
}

impl LarsScope {
    /// Whether a parameter of this rank is scaled.
    pub fn includes(self, rank: usize) -> bool {
        match self {
            Self::Matrices => rank > 1,
            Self::All => true,
            Self::None => false,
        }
    }
}

/// The LARS optimiser; its momentum has no dampening.
#[derive(Debug, Clone, Copy)]
pub struct Lars {
    /// The settings.
    pub config: LarsConfig,
    /// Weight decay of all parameters, added to the gradient before it is scaled.
    pub weight_decay: f64,
}

fn norm<const D: usize>(values: &Tensor<D>) -> Tensor<1> {
    values.clone().powi_scalar(2).sum().sqrt()
}

impl Lars {
    /// The factor for `decayed`, the gradient plus the decay, `[1]`. It stays on the device: reading the norms on the
    /// host would wait for the device.
    fn scale<const D: usize>(
        &self,
        lr: f64,
        weight: &Tensor<D>,
        gradient: &Tensor<D>,
        decayed: &Tensor<D>,
    ) -> Tensor<1> {
        let LarsConfig { trust, clip, norm_of_sum, .. } = self.config;
        let weight = norm(weight);
        let (moving, divisor) = match norm_of_sum {
            true => {
                let sum = norm(decayed);
                (sum.clone(), sum)
            }
            false => {
                let gradient = norm(gradient);
                (gradient.clone(), gradient + weight.clone().mul_scalar(self.weight_decay))
            }
        };
        let idle = weight.clone().equal_elem(0.0).bool_or(moving.equal_elem(0.0));
        let scale = weight.mul_scalar(trust) / divisor;
        let scale = if clip { scale.div_scalar(lr).clamp_max(1.0) } else { scale };
        scale.mask_fill(idle, 1.0)
    }
}

impl Optimizer for Lars {
    type State<const D: usize> = Velocity<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let LarsConfig { momentum, scaled, lr_in_momentum, .. } = self.config;
        let decayed = gradient.clone() + weight.clone().mul_scalar(self.weight_decay);
        let step = match scaled.includes(D) {
            true => {
                let scale = self.scale(lr, &weight, &gradient, &decayed);
                decayed * scale.reshape([1; D])
            }
            false => decayed,
        };
        let step = if lr_in_momentum { step.mul_scalar(lr) } else { step };
        let velocity = match state {
            Some(Velocity(velocity)) => velocity.mul_scalar(momentum) + step,
            None => step,
        };
        let moved = velocity.clone();
        let weight = weight - if lr_in_momentum { moved } else { moved.mul_scalar(lr) };
        (weight, Some(Velocity(velocity)))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.on(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn tensor<const D: usize>(values: [f32; 2], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    const GRADIENTS: [[f64; 2]; 2] = [[0.6, 0.8], [-1.0, 0.0]];

    /// Two steps from the weight (3, 4) with [`GRADIENTS`], each with its learning rate.
    fn two_steps<const D: usize>(lars: Lars, rates: [f64; 2], shape: [usize; D]) -> Vec<f32> {
        let (mut weight, mut state) = (tensor([3.0, 4.0], shape), None);
        for (lr, gradient) in rates.into_iter().zip(GRADIENTS) {
            let gradient = tensor(gradient.map(|v| v as f32), shape);
            (weight, state) = lars.step(lr, weight, gradient, state);
        }
        weight.into_data().iter::<f32>().collect()
    }

    fn near(found: &[f32], wanted: [f64; 2]) {
        let off = |(a, b): (&f32, f64)| (f64::from(*a) - b).abs();
        assert!(found.iter().zip(wanted).map(off).all(|off| off < 1e-5), "{found:?} {wanted:?}");
    }

    fn length(v: [f64; 2]) -> f64 {
        v[0].hypot(v[1])
    }

    /// The same two steps by hand; `scale` gives the scale of a step from the weight, the gradient and the gradient
    /// plus decay.
    fn by_hand(
        rates: [f64; 2],
        inside: bool,
        scale: impl Fn([f64; 2], [f64; 2], [f64; 2]) -> f64,
    ) -> [f64; 2] {
        let (mut weight, mut velocity) = ([3.0, 4.0], [0.0; 2]);
        for (lr, gradient) in rates.into_iter().zip(GRADIENTS) {
            let decayed = [0, 1].map(|i| gradient[i] + 0.1 * weight[i]);
            let scale = scale(weight, gradient, decayed);
            let (inner, outer) = if inside { (lr, 1.0) } else { (1.0, lr) };
            velocity = [0, 1].map(|i| 0.9 * velocity[i] + inner * scale * decayed[i]);
            weight = [0, 1].map(|i| weight[i] - outer * velocity[i]);
        }
        weight
    }

    const PLAIN: Lars = Lars { config: LarsConfig::new(0.02, false), weight_decay: 0.1 };

    fn share(weight: [f64; 2], gradient: [f64; 2], _: [f64; 2]) -> f64 {
        0.02 * length(weight) / (length(gradient) + 0.1 * length(weight))
    }

    #[test]
    fn a_matrix_moves_by_a_share_of_its_norm_and_a_vector_by_its_gradient() {
        let rates = [0.5; 2];
        near(&two_steps(PLAIN, rates, [2, 1]), by_hand(rates, false, share));
        near(&two_steps(PLAIN, rates, [1, 2, 1, 1]), by_hand(rates, false, share));
        near(&two_steps(PLAIN, rates, [2]), by_hand(rates, false, |_, _, _| 1.0));
    }

    #[test]
    fn vectors_are_scaled_too_or_nothing_is() {
        let rates = [0.5; 2];
        let of = |scaled| Lars { config: LarsConfig { scaled, ..PLAIN.config }, ..PLAIN };
        near(&two_steps(of(LarsScope::All), rates, [2]), by_hand(rates, false, share));
        near(&two_steps(of(LarsScope::All), rates, [2, 1]), by_hand(rates, false, share));
        let plain = by_hand(rates, false, |_, _, _| 1.0);
        near(&two_steps(of(LarsScope::None), rates, [2, 1]), plain);
    }

    /// The first gradient and the decay point in different directions, so the norm of their sum is smaller than the
    /// sum of their norms.
    #[test]
    fn the_scale_is_by_the_norm_of_the_sum_where_that_is_asked_for() {
        let config = LarsConfig { norm_of_sum: true, ..PLAIN.config };
        let rates = [0.5; 2];
        let scale = |weight, _, decayed| 0.02 * length(weight) / length(decayed);
        let wanted = by_hand(rates, false, scale);
        near(&two_steps(Lars { config, ..PLAIN }, rates, [2, 1]), wanted);
        let other = by_hand(rates, false, share);
        assert!((wanted[0] - other[0]).abs() > 1e-3, "{wanted:?} {other:?}");
        // Gradient and decay cancel out: a plain step of zero.
        let lars = Lars { config, weight_decay: 1.0 };
        let (weight, _) =
            lars.step(0.1, tensor([3.0, 4.0], [2, 1]), tensor([-3.0, -4.0], [2, 1]), None);
        near(&weight.into_data().iter::<f32>().collect::<Vec<_>>(), [3.0, 4.0]);
    }

    #[test]
    fn the_learning_rate_of_a_gradients_own_step_stays_with_it_inside_the_momentum() {
        let config = LarsConfig { lr_in_momentum: true, ..PLAIN.config };
        let rates = [0.5, 0.1];
        let found = two_steps(Lars { config, ..PLAIN }, rates, [2, 1]);
        let wanted = by_hand(rates, true, share);
        near(&found, wanted);
        let outside = by_hand(rates, false, share);
        assert!((wanted[1] - outside[1]).abs() > 1e-3, "{wanted:?} {outside:?}");
    }

    #[test]
    fn a_clipped_step_is_at_most_that_of_sgd_and_no_rate_or_gradient_gives_no_number() {
        // Scales of 5 / 1 and more are above 1.
        let config = LarsConfig { momentum: 0.0, ..LarsConfig::new(1.0, true) };
        let lars = Lars { config, weight_decay: 0.0 };
        near(&two_steps(lars, [1.0; 2], [2, 1]), [3.0 - 0.6 + 1.0, 4.0 - 0.8]);
        // The first step of a warm-up.
        near(&two_steps(lars, [0.0; 2], [2, 1]), [3.0, 4.0]);
        let zero = tensor([0.0; 2], [2, 1]);
        for (clip, norm_of_sum) in [(true, false), (false, false), (false, true)] {
            let lars = Lars { config: LarsConfig { clip, norm_of_sum, ..config }, ..lars };
            let (weight, _) = lars.step(0.1, zero.clone(), tensor([1.0, 0.0], [2, 1]), None);
            near(&weight.into_data().iter::<f32>().collect::<Vec<_>>(), [-0.1, 0.0]);
            let (weight, _) = lars.step(0.1, tensor([1.0, 0.0], [2, 1]), zero.clone(), None);
            near(&weight.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 0.0]);
        }
    }
}
