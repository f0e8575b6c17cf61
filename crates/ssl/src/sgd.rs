//! SGD with momentum in one pass over memory: Burn's own makes five passes and five tensors.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use ssl_backdoor_kernels as kernels;

/// SGD as PyTorch's: no dampening, no Nesterov, weight decay added to the gradient.
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// Momentum, 0 to below 1.
    pub momentum: f64,
    /// Weight decay of all parameters.
    pub weight_decay: f64,
}

/// The running sum of a parameter's gradients.
#[derive(Debug, Clone)]
pub struct SgdState<const D: usize> {
    velocity: Tensor<D>,
}

const VELOCITY: &str = "velocity";

impl<const D: usize> RecordState for SgdState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, VELOCITY, self.velocity.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let velocity = src.take_tensor(prefix, VELOCITY)?;
        Some(Self { velocity: Tensor::from_data(velocity, device) })
    }
}

impl Optimizer for Sgd {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let step = kernels::Sgd {
            lr: lr as f32,
            momentum: self.momentum as f32,
            weight_decay: self.weight_decay as f32,
        };
        let (weight, velocity) =
            kernels::sgd(weight, gradient, state.map(|state| state.velocity), step);
        (weight, Some(SgdState { velocity }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        if state.velocity.device() == *device {
            return state;
        }
        SgdState { velocity: state.velocity.to_device(device) }
    }
}
