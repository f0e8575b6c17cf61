//! LARS as MAE's linear probe uses it: SGD whose steps on matrices are scaled by the ratio of the norms of weight and
//! gradient (You et al., 2017; protocol 2.6).

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::HashMap;

const MOMENTUM: f64 = 0.9;
/// Share of a weight's norm that a step with learning rate 1 moves.
const TRUST: f32 = 0.001;

/// The optimiser's momentum, by parameter: the values of a flattened tensor.
#[derive(Default)]
pub(crate) struct Lars(HashMap<ParamId, Vec<f32>>);

impl Lars {
    /// One step without weight decay; vectors (biases) are not scaled.
    pub(super) fn step<M: Module>(&mut self, lr: f64, module: M, grads: &GradientsParams) -> M {
        module.map(&mut Step { momentum: &mut self.0, lr, grads })
    }
}

struct Step<'a> {
    momentum: &'a mut HashMap<ParamId, Vec<f32>>,
    lr: f64,
    grads: &'a GradientsParams,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.get::<D>(param.id) else { return param };
        let weight = param.val().inner();
        let (shape, device) = (weight.dims(), weight.device());
        let grad = grad.inner();
        let norm = |t: &Tensor<D>| t.clone().powi_scalar(2).sum().sqrt().into_scalar::<f32>();
        let (of_weight, of_grad) = (norm(&weight), norm(&grad));
        let scale = if D > 1 && of_weight > 0.0 && of_grad > 0.0 {
            TRUST * of_weight / of_grad
        } else {
            1.0
        };
        let step = grad.mul_scalar(scale);
        let old = self.momentum.remove(&param.id);
        let moved = match old {
            Some(old) => tensor(old, shape, &device).mul_scalar(MOMENTUM) + step,
            None => step,
        };
        let new = weight - moved.clone().mul_scalar(self.lr);
        self.momentum.insert(param.id, moved.into_data().iter::<f32>().collect());
        param.map(|_| Tensor::from_inner(new).require_grad())
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};

    #[test]
    fn steps_worked_by_hand() {
        let device = Device::flex().autodiff();
        let mut linear: Linear = LinearConfig::new(2, 1).init(&device);
        let matrix = |values: Vec<f32>| tensor::<2>(values, [2, 1], &device).require_grad();
        linear.weight = Param::initialized(ParamId::new(), matrix(vec![3.0, 4.0]));
        let bias = tensor::<1>(vec![1.0], [1], &device).require_grad();
        linear.bias = Some(Param::initialized(ParamId::new(), bias));
        let mut lars = Lars::default();
        // The output is 2·w₀ + b: gradients (2, 0) and 1, norms 5 and 2.
        let x = || tensor::<2>(vec![2.0, 0.0], [1, 2], &device);
        for (w, b) in [(3.0 - 0.005, 0.0), (3.0 - 0.005 - 0.9 * 0.005 - 0.004_996, -1.9)] {
            let loss = linear.forward(x()).sum();
            let grads = GradientsParams::from_grads(loss.backward(), &linear);
            linear = lars.step(1.0, linear, &grads);
            let got: Vec<f32> = linear.weight.val().into_data().iter::<f32>().collect();
            assert!((got[0] - w).abs() < 1e-5 && got[1] == 4.0, "{got:?} {w}");
            let bias = linear.bias.as_ref().unwrap().val().into_scalar::<f32>();
            assert!((bias - b).abs() < 1e-6, "{bias} {b}");
        }
    }
}
