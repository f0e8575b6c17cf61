//! Batch normalisation with PyTorch's running statistics and torchvision's parameter names.

use burn::module::{Flag, Module, Param, RunningState};
use burn::tensor::{Device, Tensor, s};
use ssl_backdoor_kernels::Unit;

use crate::init;

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Batch norm over the last axis of `[batch, height, width, channels]`, run together with the
/// preceding convolution, or over the last axis of `[batch, channels]`.
///
/// Burn's own layer keeps the *biased* batch variance in its running statistics; this one rescales
/// it by n/(n−1) as PyTorch does, so evaluation agrees with PyTorch for the same weights.
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

    /// Fixes the shift at 0: it does not learn.
    pub(crate) fn without_shift(self) -> Self {
        Self { bias: self.bias.set_require_grad(false), ..self }
    }

    /// Fixes the scale at 1: it does not learn.
    pub(crate) fn without_scale(self) -> Self {
        Self { weight: self.weight.set_require_grad(false), ..self }
    }

    /// Batch norm of rows, `[batch, channels]`, as in a projection head.
    pub fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        let on = &rows.device();
        let (mean, variance) = if self.of_batch(on) {
            let (variance, mean) = rows.clone().var_mean_bias(0);
            let statistics = Tensor::cat(vec![mean.clone(), variance.clone()], 0).detach();
            self.observe(&statistics, rows.dims()[0], on);
            (mean, variance)
        } else {
            (self.running_mean.value().unsqueeze(), self.running_var.value().unsqueeze())
        };
        let scale = self.weight.val().unsqueeze() / variance.add_scalar(EPSILON).sqrt();
        (rows - mean) * scale + self.bias.val().unsqueeze()
    }

    /// Whether tensors on this device are normalised by the statistics of their own batch.
    fn of_batch(&self, on: &Device) -> bool {
        on.is_autodiff() && self.training.is_enabled()
    }

    /// The unit of a convolution (`weight`, `stride`) and this batch norm.
    ///
    /// It uses the batch's own statistics if `on` is an autodiff device and the layer is not frozen,
    /// otherwise the running statistics.
    pub fn unit(&self, weight: Tensor<4>, stride: usize, on: &Device) -> Unit {
        let running = (!self.of_batch(on)).then(|| {
            let running = [&self.running_mean, &self.running_var].map(|s| s.value().unsqueeze());
            Tensor::cat(running.to_vec(), 0)
        });
        let (scale, shift) = (self.weight.val(), self.bias.val());
        Unit { weight, scale, shift, running, epsilon: EPSILON, stride }
    }

    /// Moves the running statistics towards those of a batch of `count` pixels (mean and biased variance,
    /// `[2, channels]`), if [`unit`](Self::unit) used the batch's.
    pub fn observe(&self, statistics: &Tensor<2>, count: usize, on: &Device) {
        if !self.of_batch(on) {
            return;
        }
        let [_, channels] = statistics.dims();
        let row = |i| statistics.clone().slice(s![i..i + 1, ..]).reshape([channels]);
        let n = count as f64;
        let unbiased = row(1).mul_scalar(n / (n - 1.0).max(1.0));
        for (running, new) in [(&self.running_mean, row(0)), (&self.running_var, unbiased)] {
            let old = running.value_sync().mul_scalar(1.0 - MOMENTUM);
            running.update(old.add(new.mul_scalar(MOMENTUM)).detach());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn values(t: Tensor<1>) -> Vec<f32> {
        t.into_data().try_to_vec().unwrap()
    }

    /// Batch norm and ReLU of `x`, after a convolution that changes nothing.
    fn forward(norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
        let on = x.device();
        let [batch, height, width, _] = x.dims();
        let unit = norm.unit(Tensor::ones([1, 1, 1, 1], &on), 1, &on);
        let (y, statistics) = ssl_backdoor_kernels::stem(x, unit, false);
        norm.observe(&statistics, batch * height * width, &on);
        y
    }

    #[test]
    fn running_variance_is_unbiased_and_evaluation_uses_it() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(1, &device);
        let data = TensorData::new(vec![1.0f32, 2.0, 3.0, 6.0], [1, 2, 2, 1]);
        let out = forward(&norm, Tensor::from_data(data, &device));
        // Mean 3, biased variance 14/4; only the last value is above the mean.
        let total: f32 = out.sum().into_scalar();
        assert!((total - 3.0 / 3.5f32.sqrt()).abs() < 1e-4);
        // Mean 3; squared deviations 4 + 1 + 0 + 9 = 14, unbiased 14/3.
        let evaluated = norm.valid();
        assert!((values(evaluated.running_mean.value())[0] - 0.3).abs() < 1e-6);
        let expected = 0.9 + 0.1 * 14.0 / 3.0;
        assert!((values(evaluated.running_var.value())[0] - expected).abs() < 1e-6);
        let one = Tensor::<4>::ones([1, 1, 1, 1], &Device::flex());
        let y: f32 = forward(&evaluated, one).into_scalar();
        assert!((y - 0.7 / (expected + 1e-5).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_second_init_shares_no_statistics_but_a_clone_does() {
        let device = Device::flex().autodiff();
        let (a, b) = (BatchNorm::new(1, &device), BatchNorm::new(1, &device));
        let clone = a.clone();
        for _ in 0..2 {
            forward(&a, Tensor::ones([2, 2, 2, 1], &device));
        }
        assert_eq!(values(b.running_mean.value_sync()), [0.0]);
        assert_eq!(values(clone.running_mean.value_sync()), values(a.running_mean.value_sync()));
        assert_ne!(values(a.running_mean.value_sync()), [0.0]);
    }
}
