//! The network of DINO: an encoder, a head of three layers and a last layer whose weights have norm 1.

use burn::module::{Module, Param, ParamId};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use rand::Rng;
use ssl_backdoor_kernels as kernels;
use ssl_backdoor_model::{Encoder, init, l2_normalize};

use crate::crops::by_size;

/// Standard deviation of the head's initial weights.
const DEVIATION: f32 = 0.02;

/// An encoder with DINO's head (Caron et al., ICCV 2021, arXiv 2104.14294, appendix C).
#[derive(Module, Debug)]
pub(crate) struct DinoNet {
    pub encoder: Encoder,
    /// Three layers with GELU between them, no batch norm.
    pub head: Vec<Linear>,
    /// Directions of the outputs, `[outputs, bottleneck]`. Each is divided by its norm before it is used: this is
    /// weight norm (arXiv 1602.07868) with a fixed length of 1.
    pub directions: Param<Tensor<2>>,
}

impl DinoNet {
    /// A new head on `encoder`: layers from its `dim` features to `hidden`, to `hidden`, to `bottleneck`.
    pub fn behind(
        encoder: Encoder,
        [dim, hidden, bottleneck, outputs]: [usize; 4],
        rng: &mut impl Rng,
        device: &Device,
    ) -> Self {
        let widths = [dim, hidden, hidden, bottleneck];
        let head = widths.windows(2).map(|pair| layer([pair[0], pair[1]], rng, device)).collect();
        let directions = init::linear_uniform([outputs, bottleneck], bottleneck, rng, device);
        Self { encoder, head, directions }
    }

    /// Outputs of views of any sizes, `[views · batch, outputs]`.
    pub fn forward(&self, views: &[Tensor<4>]) -> Tensor<2> {
        let features = by_size(views, |images| self.encoder.forward(images));
        let last = self.head.len().saturating_sub(1);
        let layers = (0..).zip(&self.head);
        let embeddings = layers.fold(features, |x, (i, layer)| {
            let x = layer.forward(x);
            if i == last { x } else { kernels::gelu(x) }
        });
        l2_normalize(embeddings).matmul(l2_normalize(self.directions.val()).transpose())
    }
}

/// Normal weights (the reference truncates them at ±2, a hundred standard deviations) and a bias of zero.
fn layer([inputs, outputs]: [usize; 2], rng: &mut impl Rng, device: &Device) -> Linear {
    let mut linear = LinearConfig::new(inputs, outputs).init(device);
    let values = init::normals(inputs * outputs, rng).into_iter().map(|v| DEVIATION * v).collect();
    let weight = init::matrix(values, outputs, device).set_require_grad(device.is_autodiff());
    linear.weight = Param::initialized(ParamId::new(), weight);
    linear.bias = Some(init::constant(0.0, outputs, device));
    linear
}
