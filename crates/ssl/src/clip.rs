//! Clipping of gradients, parameter by parameter.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use ssl_backdoor_model::{OnParameter, for_each_parameter};

/// Added to each norm, to avoid a division by zero.
const LEAST: f32 = 1e-6;

/// The gradients of `module`, each scaled down to a norm of at most `most`.
pub(crate) fn clip_each<M: Module>(
    module: &M,
    grads: GradientsParams,
    most: f64,
) -> GradientsParams {
    let mut clip = Clip { grads, most: most as f32 };
    for_each_parameter(module, &mut clip);
    clip.grads
}

struct Clip {
    grads: GradientsParams,
    most: f32,
}

impl OnParameter for Clip {
    fn parameter<const D: usize>(&mut self, _path: &str, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.grads.remove::<D>(param.id) {
            let norm = gradient.clone().powi_scalar(2).sum().sqrt();
            let scale = norm.add_scalar(LEAST).recip().mul_scalar(self.most).clamp_max(1.0);
            self.grads.register(param.id, gradient * scale.unsqueeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn each_gradient_keeps_its_direction_and_a_norm_of_at_most_the_limit() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 1).init(&device);
        let x = Tensor::<2>::from_data([[3.0f32, 4.0]], &device);
        let loss = layer.forward(x).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &layer);
        let grads = clip_each(&layer, grads, 2.0);
        let weight: Tensor<2> = grads.get(layer.weight.id).unwrap();
        let weight: Vec<f32> = weight.into_data().try_to_vec().unwrap();
        // The norm was 5; that of the bias is 1.
        assert!((weight[0] - 1.2).abs() < 1e-5 && (weight[1] - 1.6).abs() < 1e-5, "{weight:?}");
        let bias: Tensor<1> = grads.get(layer.bias.as_ref().unwrap().id).unwrap();
        assert_eq!(bias.into_data().try_to_vec::<f32>().unwrap(), [1.0]);
    }
}
