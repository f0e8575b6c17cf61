//! A weight decay that changes over the steps, like DINO's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::schedule::half_cosine;

/// The weight decay of a training: from `first` to `last` along half a cosine over `steps` steps.
#[derive(Debug, Clone)]
pub(crate) struct DecaySchedule {
    first: f64,
    last: f64,
    steps: usize,
    /// Weight decay of the current step, as the bits of an `f64`; the optimiser reads it.
    now: Arc<AtomicU64>,
}

impl DecaySchedule {
    pub fn new(first: f64, last: f64, steps: usize) -> Self {
        Self { first, last, steps, now: Arc::new(AtomicU64::new(first.to_bits())) }
    }

    /// Sets the weight decay of `step` and returns it.
    pub fn move_to(&self, step: usize) -> f64 {
        let done = step as f64 / self.steps.max(1) as f64;
        let decay = self.last + (self.first - self.last) * half_cosine(done);
        self.now.store(decay.to_bits(), Ordering::Relaxed);
        decay
    }

    /// Adds this decay to `optimizer`, which must have none of its own: weights shrink by learning rate times decay
    /// before the step, as in AdamW.
    pub fn around<O: Optimizer>(&self, optimizer: O) -> Decaying<O> {
        Decaying { optimizer, decay: self.clone() }
    }
}

/// An optimiser with decoupled weight decay.
#[derive(Clone)]
pub(crate) struct Decaying<O> {
    optimizer: O,
    decay: DecaySchedule,
}

impl<O: Optimizer> Optimizer for Decaying<O> {
    type State<const D: usize> = O::State<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let decay = f64::from_bits(self.decay.now.load(Ordering::Relaxed));
        self.optimizer.step(lr, weight.mul_scalar(1.0 - lr * decay), gradient, state)
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        O::to_device(state, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sgd::Sgd;

    /// `cosine_scheduler(.04, .4, 1, 4)` of the reference: .4 - .36 · ½(1 + cos(π · step / 4)).
    #[test]
    fn the_decay_goes_along_half_a_cosine() {
        let decay = DecaySchedule::new(0.04, 0.4, 4);
        let found: Vec<f64> = (0..5).map(|step| decay.move_to(step)).collect();
        for (found, wanted) in found.iter().zip([0.04, 0.092721, 0.22, 0.347279, 0.4]) {
            assert!((found - wanted).abs() < 1e-6, "{found}");
        }
    }

    #[test]
    fn the_optimiser_sees_the_decay_of_the_step() {
        let decay = DecaySchedule::new(0.0, 0.5, 2);
        let optimizer = decay.around(Sgd { momentum: 0.0, weight_decay: 0.0 });
        let one = || Tensor::<1>::from_data([1.0f32], &Device::flex());
        for (step, wanted) in [(0, 1.0), (1, 0.975), (2, 0.95)] {
            decay.move_to(step);
            let (weight, _) = optimizer.step(0.1, one(), one().zeros_like(), None);
            let found: f32 = weight.into_scalar();
            assert!((found - wanted).abs() < 1e-6, "{step}: {found}");
        }
    }
}
