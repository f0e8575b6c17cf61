//! The state of an optimiser with momentum.

use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

/// The running sum of a parameter's steps.
#[derive(Debug, Clone)]
pub struct Velocity<const D: usize>(pub Tensor<D>);

const NAME: &str = "velocity";

impl<const D: usize> RecordState for Velocity<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, NAME, self.0.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        Some(Self(Tensor::from_data(src.take_tensor(prefix, NAME)?, device)))
    }
}

impl<const D: usize> Velocity<D> {
    /// Moves it to `device`.
    pub fn on(self, device: &Device) -> Self {
        if self.0.device() == *device { self } else { Self(self.0.to_device(device)) }
    }
}
