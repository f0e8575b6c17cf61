//! LARS: SGD with momentum whose step on each matrix is a share of the matrix's norm.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

/// LARS (You et al., arXiv 1708.03888) with PyTorch's momentum: no dampening, the learning rate outside of the velocity.
/// Vectors take plain steps.
#[derive(Debug, Clone, Copy)]
pub struct Lars {
    /// Momentum, 0 to below 1.
    pub momentum: f64,
    /// Weight decay of all parameters, added to the gradient before it is scaled.
    pub weight_decay: f64,
    /// Share of a weight's norm that a step with learning rate 1 moves.
    pub trust: f64,
    /// Is the scale at most one over the learning rate?
    pub clip: bool,
}

/// The running sum of a parameter's scaled gradients.
#[derive(Debug, Clone)]
pub struct LarsState<const D: usize> {
    velocity: Tensor<D>,
}

const VELOCITY: &str = "velocity";

impl<const D: usize> RecordState for LarsState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, VELOCITY, self.velocity.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let velocity = src.take_tensor(prefix, VELOCITY)?;
        Some(Self { velocity: Tensor::from_data(velocity, device) })
    }
}

impl Lars {
    /// What a gradient is multiplied by, `[1]`, for the norms of weight and gradient: 1 where either is 0. All on the
    /// device, which a look at the norms would have to wait for.
    fn scale(&self, lr: f64, weight: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let idle = weight.clone().equal_elem(0.0).bool_or(gradient.clone().equal_elem(0.0));
        let scale = weight.clone().mul_scalar(self.trust)
            / (gradient + weight.mul_scalar(self.weight_decay));
        let scale = if self.clip { scale.div_scalar(lr).clamp_max(1.0) } else { scale };
        scale.mask_fill(idle, 1.0)
    }
}

impl Optimizer for Lars {
    type State<const D: usize> = LarsState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let norm = |t: &Tensor<D>| t.clone().powi_scalar(2).sum().sqrt();
        let scale = (D > 1).then(|| self.scale(lr, norm(&weight), norm(&gradient)));
        let decayed = gradient + weight.clone().mul_scalar(self.weight_decay);
        let step = match scale {
            Some(scale) => decayed * scale.reshape([1; D]),
            None => decayed,
        };
        let velocity = match state {
            Some(LarsState { velocity }) => velocity.mul_scalar(self.momentum) + step,
            None => step,
        };
        let weight = weight - velocity.clone().mul_scalar(lr);
        (weight, Some(LarsState { velocity }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        LarsState { velocity: state.velocity.to_device(device) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn tensor<const D: usize>(values: [f32; 2], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    /// Two steps of a weight (3, 4) with gradients (0.6, 0.8) and (−1, 0).
    fn two_steps<const D: usize>(lars: Lars, lr: f64, shape: [usize; D]) -> Vec<f32> {
        let (weight, state) =
            lars.step(lr, tensor([3.0, 4.0], shape), tensor([0.6, 0.8], shape), None);
        let (weight, _) = lars.step(lr, weight, tensor([-1.0, 0.0], shape), state);
        weight.into_data().iter::<f32>().collect()
    }

    fn near(found: &[f32], wanted: [f64; 2]) {
        let off = |(a, b): (&f32, f64)| (f64::from(*a) - b).abs();
        assert!(found.iter().zip(wanted).map(off).all(|off| off < 1e-5), "{found:?} {wanted:?}");
    }

    #[test]
    fn a_matrix_moves_by_a_share_of_its_norm_and_a_vector_by_its_gradient() {
        let lars = Lars { momentum: 0.9, weight_decay: 0.1, trust: 0.02, clip: false };
        let (lr, gradients) = (0.5, [[0.6, 0.8], [-1.0, 0.0]]);
        let by_hand = |scaled: bool| {
            let (mut weight, mut velocity) = ([3.0, 4.0], [0.0; 2]);
            for gradient in gradients {
                let norm = |v: [f64; 2]| v[0].hypot(v[1]);
                let scale = 0.02 * norm(weight) / (norm(gradient) + 0.1 * norm(weight));
                for i in 0..2 {
                    let step = gradient[i] + 0.1 * weight[i];
                    velocity[i] = 0.9 * velocity[i] + if scaled { scale * step } else { step };
                }
                weight = [0, 1].map(|i| weight[i] - lr * velocity[i]);
            }
            weight
        };
        near(&two_steps(lars, lr, [2, 1]), by_hand(true));
        near(&two_steps(lars, lr, [1, 2, 1, 1]), by_hand(true));
        near(&two_steps(lars, lr, [2]), by_hand(false));
    }

    #[test]
    fn a_clipped_step_is_at_most_that_of_sgd_and_no_rate_or_gradient_gives_no_number() {
        // Scales of 5 / 1 and more are above 1.
        let lars = Lars { momentum: 0.0, weight_decay: 0.0, trust: 1.0, clip: true };
        near(&two_steps(lars, 1.0, [2, 1]), [3.0 - 0.6 + 1.0, 4.0 - 0.8]);
        // The first step of a warm-up.
        near(&two_steps(lars, 0.0, [2, 1]), [3.0, 4.0]);
        let zero = tensor([0.0; 2], [2, 1]);
        for clip in [true, false] {
            let lars = Lars { clip, ..lars };
            let (weight, _) = lars.step(0.1, zero.clone(), tensor([1.0, 0.0], [2, 1]), None);
            near(&weight.into_data().iter::<f32>().collect::<Vec<_>>(), [-0.1, 0.0]);
            let (weight, _) = lars.step(0.1, tensor([1.0, 0.0], [2, 1]), zero.clone(), None);
            near(&weight.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 0.0]);
        }
    }
}
