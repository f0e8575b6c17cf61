//! The parameter updates of a training step, each in one pass over memory: SGD with momentum, and the
//! exponential moving average.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use crate::fused;

/// One step of SGD with momentum as in PyTorch: no dampening, no Nesterov, decay added to the gradient.
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f32,
    /// Momentum, 0 to 1.
    pub momentum: f32,
    /// Weight decay (L2).
    pub weight_decay: f32,
}

/// Returns the new weight and velocity: `v' = momentum · v + g + decay · w` and `w' = w − lr · v'`. All
/// tensors have the shape of the weight; none is tracked. A missing velocity counts as zero.
///
/// # Panics
/// If the shapes differ.
pub fn sgd<const D: usize>(
    weight: Tensor<D>,
    gradient: Tensor<D>,
    velocity: Option<Tensor<D>>,
    step: Sgd,
) -> (Tensor<D>, Tensor<D>) {
    let velocity = velocity.unwrap_or_else(|| gradient.zeros_like());
    let dims = weight.dims();
    assert!(gradient.dims() == dims && velocity.dims() == dims, "the shapes differ from {dims:?}");
    #[cfg(feature = "flex")]
    if [&weight, &gradient, &velocity].into_iter().all(fused) {
        return on_flex::sgd_tensors(weight, gradient, velocity, step);
    }
    let gradient = gradient + weight.clone().mul_scalar(step.weight_decay);
    let velocity = velocity.mul_scalar(step.momentum) + gradient;
    (weight - velocity.clone().mul_scalar(step.lr), velocity)
}

/// `momentum · target + (1 − momentum) · online`, untracked.
///
/// # Panics
/// If the shapes differ.
pub fn ema<const D: usize>(target: Tensor<D>, online: Tensor<D>, momentum: f64) -> Tensor<D> {
    assert_eq!(target.dims(), online.dims(), "the shapes differ");
    #[cfg(feature = "flex")]
    if fused(&target) && fused(&online) {
        return on_flex::ema_tensors(target, online, momentum as f32);
    }
    target.mul_scalar(momentum) + online.mul_scalar(1.0 - momentum)
}

#[cfg(feature = "flex")]
mod on_flex {
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Backend, Dispatch, Flex, backend_extension};
    use burn::tensor::Tensor;
    use burn_flex::FlexTensor;
    use rayon::prelude::*;

    use super::Sgd;
    use crate::path::{kernel, mul_add, path};

    /// Floats per task.
    const CHUNK: usize = 1 << 14;

    #[backend_extension(Flex)]
    pub trait Updates: Backend {
        fn sgd(
            weight: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            velocity: FloatTensor<Self>,
            step: Sgd,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);

        fn ema(
            target: FloatTensor<Self>,
            online: FloatTensor<Self>,
            momentum: f32,
        ) -> FloatTensor<Self>;
    }

    pub fn sgd_tensors<const D: usize>(
        weight: Tensor<D>,
        gradient: Tensor<D>,
        velocity: Tensor<D>,
        step: Sgd,
    ) -> (Tensor<D>, Tensor<D>) {
        let [weight, gradient, velocity] = [weight, gradient, velocity].map(|t| t.into_dispatch());
        let (weight, velocity) = <Dispatch as Updates>::sgd(weight, gradient, velocity, step);
        (Tensor::from_dispatch(weight), Tensor::from_dispatch(velocity))
    }

    pub fn ema_tensors<const D: usize>(
        target: Tensor<D>,
        online: Tensor<D>,
        momentum: f32,
    ) -> Tensor<D> {
        let (target, online) = (target.into_dispatch(), online.into_dispatch());
        Tensor::from_dispatch(<Dispatch as Updates>::ema(target, online, momentum))
    }

    /// Contiguous, without a second handle kept here: a tensor with only one is changed in place.
    fn whole(tensor: FlexTensor) -> FlexTensor {
        tensor.to_contiguous()
    }

    impl Updates for Flex {
        fn sgd(
            weight: FlexTensor,
            gradient: FlexTensor,
            velocity: FlexTensor,
            step: Sgd,
        ) -> (FlexTensor, FlexTensor) {
            let [mut weight, gradient, mut velocity] = [weight, gradient, velocity].map(whole);
            let (w, g) = (weight.storage_mut::<f32>(), gradient.storage::<f32>());
            let v = velocity.storage_mut::<f32>();
            (w.par_chunks_mut(CHUNK), g.par_chunks(CHUNK), v.par_chunks_mut(CHUNK))
                .into_par_iter()
                .for_each(|(w, g, v)| sgd_floats(path(), w, g, v, step));
            (weight, velocity)
        }

        fn ema(target: FlexTensor, online: FlexTensor, momentum: f32) -> FlexTensor {
            let [mut target, online] = [target, online].map(whole);
            let (t, o) = (target.storage_mut::<f32>(), online.storage::<f32>());
            t.par_chunks_mut(CHUNK)
                .zip(o.par_chunks(CHUNK))
                .for_each(|(t, o)| ema_floats(path(), t, o, momentum));
            target
        }
    }

    kernel!(
        sgd_floats(w: &mut [f32], g: &[f32], v: &mut [f32], step: Sgd) = sgd_body
    );

    #[inline(always)]
    fn sgd_body<const FMA: bool>(w: &mut [f32], g: &[f32], v: &mut [f32], step: Sgd) {
        for ((w, &g), v) in w.iter_mut().zip(g).zip(v) {
            *v = mul_add::<FMA>(*v, step.momentum, mul_add::<FMA>(*w, step.weight_decay, g));
            *w = mul_add::<FMA>(*v, -step.lr, *w);
        }
    }

    kernel!(
        ema_floats(target: &mut [f32], online: &[f32], momentum: f32) = ema_body
    );

    #[inline(always)]
    fn ema_body<const FMA: bool>(target: &mut [f32], online: &[f32], momentum: f32) {
        for (target, &online) in target.iter_mut().zip(online) {
            *target = mul_add::<FMA>(*target, momentum, online * (1.0 - momentum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Device::flex())
    }

    fn values(tensor: &Tensor<1>) -> Vec<f32> {
        tensor.to_data().iter::<f32>().collect()
    }

    #[test]
    fn three_steps_by_hand_leave_other_handles_alone() {
        let step = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01 };
        let first = tensor(&[1.0, -2.0]);
        let (mut weight, mut velocity) = (first.clone(), None);
        let (mut w, mut v) = ([1.0f64, -2.0], [0.0f64; 2]);
        for turn in 0..3 {
            let gradient = [0.5 + f64::from(turn), -1.0];
            let found = sgd(weight, tensor(&gradient.map(|g| g as f32)), velocity, step);
            (weight, velocity) = (found.0, Some(found.1));
            for i in 0..2 {
                v[i] = 0.9 * v[i] + gradient[i] + 0.01 * w[i];
                w[i] -= 0.1 * v[i];
            }
            for (found, expected) in values(&weight).iter().zip(w) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
        assert_eq!(values(&first), [1.0, -2.0]);
    }

    #[test]
    fn the_average_moves_by_its_share() {
        let (target, online) = (tensor(&[1.0, 2.0]), tensor(&[3.0, -2.0]));
        assert_eq!(values(&ema(target.clone(), online, 0.75)), [1.5, 1.0]);
        assert_eq!(values(&target), [1.0, 2.0]);
    }

    #[test]
    fn sixteen_bits_take_the_plain_operations() {
        let half = |values: &[f32]| tensor(values).cast(burn::tensor::DType::BF16);
        let step = Sgd { lr: 0.5, momentum: 0.0, weight_decay: 0.0 };
        let (weight, _) = sgd(half(&[1.0, -2.0]), half(&[1.0, 2.0]), None, step);
        assert_eq!(values(&weight), [0.5, -3.0]);
        assert_eq!(values(&ema(half(&[1.0, 2.0]), half(&[3.0, -2.0]), 0.75)), [1.5, 1.0]);
    }

    #[test]
    #[should_panic(expected = "the shapes differ")]
    fn a_gradient_of_another_shape_is_refused() {
        let step = Sgd { lr: 0.5, momentum: 0.0, weight_decay: 0.0 };
        sgd(tensor(&[1.0, 2.0]), tensor(&[1.0]), None, step);
    }
}
