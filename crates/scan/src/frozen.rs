//! An encoder through which gradients flow, with fixed weights.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ssl_backdoor_data::Normalization;
use ssl_backdoor_model::Encoder;

/// An encoder in evaluation mode on an autodiff device: its features have gradients with respect to the images, and its
/// weights have none.
pub struct Frozen {
    encoder: Encoder,
    device: Device,
}

impl Frozen {
    /// A copy of `encoder`, which lies on `device`.
    pub fn new(encoder: &Encoder, device: &Device) -> Self {
        let device = device.clone().without_autodiff().autodiff();
        Self { encoder: encoder.valid().freeze().train(), device }
    }

    /// The autodiff device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The encoder on that device.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Features `[batch, dim]` of images `[batch, 3, height, width]` in 0 to 1, which it normalises.
    pub fn features(&self, images: Tensor<4>, normalization: &Normalization) -> Tensor<2> {
        let channels =
            |values: [f32; 3]| Tensor::<1>::from_floats(values, &self.device).reshape([1, 3, 1, 1]);
        let (mean, std) = (channels(normalization.mean), channels(normalization.std));
        self.encoder.forward((images - mean) / std)
    }
}

/// Divides each row by its L2 norm. A row of zeros does not change, and its gradient is finite, unlike that of
/// [`l2_normalize`](ssl_backdoor_model::l2_normalize).
pub(crate) fn unit_rows(rows: Tensor<2>) -> Tensor<2> {
    let norm = rows.clone().powi_scalar(2).sum_dim(1).add_scalar(1e-20).sqrt();
    rows / norm
}

#[cfg(test)]
mod tests {
    use burn::tensor::Int;
    use ssl_backdoor_model::{EncoderConfig, Positions, Stem};
    use ssl_backdoor_rng::keyed;

    use super::*;
    use crate::purpose;

    #[test]
    fn features_are_those_of_the_encoder_and_only_images_have_gradients() {
        let device = Device::flex();
        for config in [
            EncoderConfig::Resnet18 { width: 2, stem: Stem::Small },
            EncoderConfig::Vit {
                dim: 8,
                depth: 2,
                heads: 2,
                patch: 4,
                positions: Positions::Fixed,
            },
        ] {
            let mut rng = keyed(1, purpose::PATCH_NET, 0, 0, 0);
            let encoder = config.init(&mut rng, &device).valid();
            let frozen = Frozen::new(&encoder, &device);
            let images =
                Tensor::<1, Int>::arange(0..1_536, &device).float().sin().reshape([2, 3, 16, 16]);
            let plain = encoder.forward(images.clone()).into_data();
            let unit = Normalization { mean: [0.0; 3], std: [1.0; 3] };
            let tracked = Tensor::from_inner(images).require_grad();
            let features = frozen.features(tracked.clone(), &unit);
            plain.assert_approx_eq::<f32>(
                &features.clone().inner().into_data(),
                burn::tensor::Tolerance::absolute(1e-5),
            );
            let grads = features.powi_scalar(4).sum().backward();
            let slope = tracked.grad(&grads).unwrap();
            assert_eq!(slope.dims(), [2, 3, 16, 16]);
            assert!(slope.abs().sum().into_scalar::<f32>() > 0.0);
            // The running statistics have not changed.
            let again = frozen.encoder().valid();
            let images = Tensor::<4>::ones([1, 3, 16, 16], &device);
            assert_eq!(
                again.forward(images.clone()).into_data(),
                encoder.forward(images).into_data()
            );
        }
    }
}
