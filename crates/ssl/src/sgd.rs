//! SGD with momentum in one pass over memory: Burn's own makes five passes and five tensors.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};
use ssl_backdoor_kernels as kernels;
use ssl_backdoor_model::Velocity;

/// SGD as in PyTorch: no dampening, no Nesterov, weight decay added to the gradient.
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// Momentum, 0 to below 1.
    pub momentum: f64,
    /// Weight decay of all parameters.
    pub weight_decay: f64,
}

impl Optimizer for Sgd {
    type State<const D: usize> = Velocity<D>;

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
            kernels::sgd(weight, gradient, state.map(|Velocity(velocity)| velocity), step);
        (weight, Some(Velocity(velocity)))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.on(device)
    }
}
