//! A transformer's block: layer norm, attention, layer norm, perceptron, with PyTorch's names.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use rand::Rng;

use ssl_backdoor_kernels as kernels;

use crate::init;

/// Ratio of MLP width to token length.
const MLP: usize = 4;
/// As in MAE; PyTorch's own default is 1e-5.
const EPSILON: f64 = 1e-6;

pub(super) fn linear(from: usize, to: usize, rng: &mut impl Rng, device: &Device) -> Linear {
    let mut linear = LinearConfig::new(from, to).init(device);
    linear.weight = init::xavier_uniform([from, to], [from, to], rng, device);
    linear.bias = Some(init::constant(0.0, to, device));
    linear
}

/// A linear layer on the tokens of all images, in the precision of the tokens.
pub(super) fn on_rows(linear: &Linear, x: Tensor<3>) -> Tensor<3> {
    match &linear.bias {
        Some(bias) => kernels::linear(x, linear.weight.val(), bias.val()),
        None => linear.forward(x),
    }
}

/// Layer norm with PyTorch's names.
#[derive(Module, Debug)]
pub(super) struct LayerNorm {
    /// Scale, `[dim]`.
    weight: Param<Tensor<1>>,
    /// Shift, `[dim]`.
    bias: Param<Tensor<1>>,
}

impl LayerNorm {
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        kernels::layer_norm(x, self.weight.val(), self.bias.val(), EPSILON)
    }
}

pub(super) fn layer_norm(dim: usize, device: &Device) -> LayerNorm {
    LayerNorm { weight: init::constant(1.0, dim, device), bias: init::constant(0.0, dim, device) }
}

#[derive(Module, Debug)]
struct Attention {
    /// Queries, keys and values side by side, `[dim, 3 · dim]`.
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        on_rows(&self.proj, kernels::attention(on_rows(&self.qkv, x), self.heads))
    }
}

#[derive(Module, Debug)]
struct Perceptron {
    fc1: Linear,
    fc2: Linear,
}

impl Perceptron {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = match &self.fc1.bias {
            Some(bias) => kernels::linear_gelu(x, self.fc1.weight.val(), bias.val()),
            None => kernels::gelu(self.fc1.forward(x)),
        };
        on_rows(&self.fc2, hidden)
    }
}

/// A pre-norm transformer block.
#[derive(Module, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Perceptron,
}

impl Block {
    pub fn new(dim: usize, heads: usize, rng: &mut impl Rng, device: &Device) -> Self {
        Self {
            norm1: layer_norm(dim, device),
            attn: Attention {
                qkv: linear(dim, 3 * dim, rng, device),
                proj: linear(dim, dim, rng, device),
                heads,
            },
            norm2: layer_norm(dim, device),
            mlp: Perceptron {
                fc1: linear(dim, MLP * dim, rng, device),
                fc2: linear(MLP * dim, dim, rng, device),
            },
        }
    }

    /// Takes its layers' weights from `draw`, a function of their input and output lengths and of the number of
    /// matrices side by side. Biases stay 0.
    pub fn redraw(&mut self, draw: &mut impl FnMut([usize; 2], usize) -> Param<Tensor<2>>) {
        let Self { attn, mlp, .. } = self;
        let layers =
            [(&mut attn.qkv, 3), (&mut attn.proj, 1), (&mut mlp.fc1, 1), (&mut mlp.fc2, 1)];
        for (layer, matrices) in layers {
            layer.weight = draw(layer.weight.dims(), matrices);
        }
    }

    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_through(x, |tokens| tokens)
    }

    /// Like [`forward`](Self::forward), with the tokens after the first norm passed through `hook`.
    pub fn forward_through(
        &self,
        x: Tensor<3>,
        hook: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(hook(self.norm1.forward(x)));
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }
}
