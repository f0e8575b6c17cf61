//! The exponential moving average (EMA) of a target network.

use std::any::Any;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use ssl_backdoor_kernels as kernels;

use crate::{OnParameter, for_each_parameter, is_running_statistic};

/// Moves every parameter of `target` to `momentum · target + (1 − momentum) · online`; momentum 0
/// copies. The target keeps its own batch-norm running statistics, as in the reference
/// (docs/protocol.md, 2.1).
///
/// The two must be instances of the same network from separate calls of `init`: a clone would share
/// running statistics and parameter ids with the online network.
pub fn update_ema<M: Module>(target: M, online: &M, momentum: f64) -> M {
    let mut online_parameters = Collect::default();
    for_each_parameter(online, &mut online_parameters);
    online_parameters.0.reverse();
    target.map(&mut Blend { online: online_parameters.0, path: Vec::new(), momentum })
}

/// Detached parameters in the order of the visit; `Any` because their ranks differ.
#[derive(Default)]
struct Collect(Vec<Box<dyn Any>>);

impl OnParameter for Collect {
    fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if !is_running_statistic(path) {
            self.0.push(Box::new(param.val().inner()));
        }
    }
}

struct Blend {
    online: Vec<Box<dyn Any>>,
    path: Vec<String>,
    momentum: f64,
}

impl ModuleMapper for Blend {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.path.last().is_some_and(|name| is_running_statistic(name)) {
            return param;
        }
        let Some(Ok(online)) = self.online.pop().map(|p| p.downcast::<Tensor<D>>()) else {
            unreachable!("two instances of one network visit the same parameters in one order")
        };
        let momentum = self.momentum;
        param.map(|target| {
            let blended = kernels::ema(target.inner(), *online, momentum);
            Tensor::from_inner(blended).set_require_grad(false)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoder, EncoderConfig, Stem};
    use burn::tensor::Device;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn net(seed: u64, device: &Device) -> Encoder {
        EncoderConfig::Resnet18 { width: 2, stem: Stem::Small }
            .init(&mut ChaCha8Rng::seed_from_u64(seed), device)
    }

    /// All parameters and all running statistics, each flattened.
    fn flat(net: &Encoder) -> (Vec<f32>, Vec<f32>) {
        struct Flat(Vec<f32>, Vec<f32>);
        impl OnParameter for Flat {
            fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
                let values = param.val().into_data().try_to_vec::<f32>().unwrap();
                let into = if is_running_statistic(path) { &mut self.1 } else { &mut self.0 };
                into.extend(values);
            }
        }
        let mut flat = Flat(Vec::new(), Vec::new());
        for_each_parameter(net, &mut flat);
        (flat.0, flat.1)
    }

    #[test]
    fn momentum_zero_copies_and_momentum_blends() {
        let device = Device::flex().autodiff();
        let (online, target) = (net(1, &device), net(2, &device).no_grad());
        let (a, b) = (flat(&online).0, flat(&target).0);
        let target = update_ema(target, &online, 0.9);
        for ((a, b), c) in a.iter().zip(&b).zip(&flat(&target).0) {
            assert!((0.1 * a + 0.9 * b - c).abs() < 1e-6);
        }
        let target = update_ema(target, &online, 0.0);
        assert_eq!(flat(&target).0, a);
    }

    #[test]
    fn running_statistics_stay_the_targets_own_and_still_move() {
        let device = Device::flex().autodiff();
        let (online, target) = (net(1, &device), net(2, &device).no_grad());
        let images = Tensor::ones([2, 3, 8, 8], &device);
        online.forward(images.clone());
        let before = flat(&target.valid()).1;
        let target = update_ema(target, &online, 0.0);
        assert_eq!(flat(&target.valid()).1, before);
        // A target without gradients still trains its batch norms.
        target.forward(images);
        assert_ne!(flat(&target.valid()).1, before);
    }
}
