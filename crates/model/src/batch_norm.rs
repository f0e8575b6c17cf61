//! Batch normalisation with PyTorch's running statistics and torchvision's parameter names.

use burn::module::{Flag, Module, Param, RunningState};
use burn::tensor::{Device, Tensor, module};

use crate::init;

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Batch norm over the channels of `[batch, channels, height, width]`.
///
/// Burn's own layer keeps the *biased* batch variance in its running statistics; this one rescales
/// it by n/(n−1) as PyTorch does, so that evaluation agrees with PyTorch on the same weights.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running variance, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
    training: Param<Flag>,
}

impl BatchNorm {
    /// Scale 1, shift 0.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: init::constant(1.0, channels, device),
            bias: init::constant(0.0, channels, device),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            training: Param::from_bool(true),
        }
    }

    /// Normalises by the batch's own statistics and moves the running ones, when the input is on an
    /// autodiff device and the layer is not frozen; else by the running ones.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        if !(input.device().is_autodiff() && self.training.is_enabled()) {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            return module::batch_norm(input, weight, bias, mean, var, EPSILON);
        }
        let [batch, _, height, width] = input.dims();
        let n = (batch * height * width) as f64;
        let out = module::batch_norm_train(input, weight, bias, EPSILON);
        let unbiased = out.variance.mul_scalar(n / (n - 1.0).max(1.0));
        for (running, new) in [(&self.running_mean, out.mean), (&self.running_var, unbiased)] {
            let old = running.value_sync().mul_scalar(1.0 - MOMENTUM);
            running.update(old.add(new.detach().mul_scalar(MOMENTUM)).detach());
        }
        out.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn values(t: Tensor<1>) -> Vec<f32> {
        t.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn running_variance_is_unbiased_and_evaluation_uses_it() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(1, &device);
        let data = TensorData::new(vec![1.0f32, 2.0, 3.0, 6.0], [1, 1, 2, 2]);
        let out = norm.forward(Tensor::from_data(data, &device));
        let mean: f32 = out.mean().into_scalar();
        assert!(mean.abs() < 1e-6);
        // Mean 3; squared deviations 4 + 1 + 0 + 9 = 14, unbiased 14/3.
        let evaluated = norm.valid();
        assert!((values(evaluated.running_mean.value())[0] - 0.3).abs() < 1e-6);
        let expected = 0.9 + 0.1 * 14.0 / 3.0;
        assert!((values(evaluated.running_var.value())[0] - expected).abs() < 1e-6);
        let one = Tensor::<4>::ones([1, 1, 1, 1], &Device::flex());
        let y: f32 = evaluated.forward(one).into_scalar();
        assert!((y - 0.7 / (expected + 1e-5).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_second_init_shares_no_statistics_but_a_clone_does() {
        let device = Device::flex().autodiff();
        let (a, b) = (BatchNorm::new(1, &device), BatchNorm::new(1, &device));
        let clone = a.clone();
        for _ in 0..2 {
            a.forward(Tensor::ones([2, 1, 2, 2], &device));
        }
        assert_eq!(values(b.running_mean.value_sync()), [0.0]);
        assert_eq!(values(clone.running_mean.value_sync()), values(a.running_mean.value_sync()));
        assert_ne!(values(a.running_mean.value_sync()), [0.0]);
    }
}
