//! The backend extension: the operations on burn-flex, with gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Shape, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::attention::Heads;
use super::layer_norm::Norm;
use super::linear::Layer;
use super::{attention as heads, gelu as gelus, layer_norm as norms, linear as layers};
use crate::multiply::format;
use crate::pairs::Format;
use crate::path::path;
use crate::process::on_pool;
use crate::wanted::Wanted;

/// The arguments of a linear layer that are not tensors.
#[derive(Debug, Clone, Copy)]
pub struct LinearSettings {
    /// Whether GELU follows.
    gelu: bool,
    /// The number format of the products.
    format: Format,
}

/// The operations.
#[backend_extension(Autodiff, Flex)]
pub trait Transformer: Backend {
    /// See [`crate::gelu`].
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`crate::layer_norm`].
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// See [`crate::linear`] and [`crate::linear_gelu`].
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: LinearSettings,
    ) -> FloatTensor<Self>;

    /// See [`crate::attention`].
    fn fused_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Transformer>::fused_gelu(x.into_dispatch()))
}

pub(crate) fn layer_norm(
    x: Tensor<3>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as Transformer>::fused_layer_norm(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        epsilon as f32,
    ))
}

/// A linear layer, followed by GELU if `gelu`.
pub(crate) fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>, gelu: bool) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as Transformer>::fused_linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        LinearSettings { gelu, format: format() },
    ))
}

pub(crate) fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let out = <Dispatch as Transformer>::fused_attention(qkv.into_dispatch(), heads);
    Tensor::from_dispatch(out)
}

fn tensor(values: Vec<f32>, like: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, like))
}

fn vector(values: Vec<f32>) -> FlexTensor {
    let count = values.len();
    FlexTensor::from_data(TensorData::new(values, [count]))
}

fn dims(tensor: &FlexTensor) -> [usize; 3] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|i| shape[i])
}

fn layer<'a>(weight: &'a FlexTensor, bias: &'a FlexTensor, format: Format) -> Layer<'a> {
    Layer { weight: weight.storage(), bias: bias.storage(), format }
}

/// The results of a linear layer on rows like those of `x`.
fn results(values: Vec<f32>, x: &FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let ([images, tokens, _], to) = (dims(x), bias.layout().shape()[0]);
    tensor(values, [images, tokens, to])
}

fn sizes(qkv: &FlexTensor, heads: usize) -> Heads {
    let [_, tokens, width] = dims(qkv);
    Heads { tokens, dim: width / 3, heads }
}

impl Transformer for Flex {
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = x.to_contiguous();
        tensor(on_pool(|| gelus::gelu(path(), x.storage())), x.layout().shape().clone())
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let [x, scale, shift] = [x, scale, shift].map(|t| t.to_contiguous());
        let norm = Norm { scale: scale.storage(), shift: shift.storage(), epsilon };
        tensor(on_pool(|| norms::layer_norm(path(), x.storage(), norm)), dims(&x))
    }

    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        LinearSettings { gelu, format }: LinearSettings,
    ) -> FloatTensor<Self> {
        let [x, weight, bias] = [x, weight, bias].map(|t| t.to_contiguous());
        let layer = layer(&weight, &bias, format);
        let out = on_pool(|| {
            if gelu {
                let [_, out] = layers::linear_gelu(path(), x.storage(), layer);
                return out;
            }
            layers::linear(path(), x.storage(), layer)
        });
        results(out, &x, &bias)
    }

    fn fused_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let qkv = qkv.to_contiguous();
        let sizes = sizes(&qkv, heads);
        let out = on_pool(|| heads::attention(path(), qkv.storage(), sizes));
        let [images, tokens, _] = dims(&qkv);
        tensor(out, [images, tokens, sizes.dim])
    }
}

#[derive(Debug)]
struct GeluBackward;

impl Backward<Flex, 1> for GeluBackward {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([node], x) = (ops.parents, ops.state);
        if let Some(node) = node {
            let dx = on_pool(|| gelus::gelu_backward(path(), x.storage(), gradient.storage()));
            grads.register::<Flex>(node.id, tensor(dx, x.layout().shape().clone()));
        }
    }
}

#[derive(Debug)]
struct LayerNormBackward;

#[derive(Debug, Clone)]
struct LayerNormState {
    x: FlexTensor,
    scale: FlexTensor,
    shift: FlexTensor,
    epsilon: f32,
}

impl Backward<Flex, 3> for LayerNormBackward {
    type State = LayerNormState;

    fn backward(self, ops: Ops<LayerNormState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([of_x, of_scale, of_shift], state) = (ops.parents, ops.state);
        let LayerNormState { x, scale, shift, epsilon } = state;
        let norm = Norm { scale: scale.storage(), shift: shift.storage(), epsilon };
        let values = gradient.storage();
        let found = on_pool(|| norms::layer_norm_backward(path(), x.storage(), norm, values));
        if let Some(node) = of_x {
            grads.register::<Flex>(node.id, tensor(found.x, dims(&x)));
        }
        if let Some(node) = of_scale {
            grads.register::<Flex>(node.id, vector(found.scale));
        }
        if let Some(node) = of_shift {
            grads.register::<Flex>(node.id, vector(found.shift));
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

#[derive(Debug, Clone)]
struct LinearState {
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    /// The results before GELU, if it follows.
    hidden: Option<FlexTensor>,
    format: Format,
}

impl Backward<Flex, 3> for LinearBackward {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([of_x, of_weight, of_bias], state) = (ops.parents, ops.state);
        let LinearState { x, weight, bias, hidden, format } = state;
        let layer = layer(&weight, &bias, format);
        let parameters = of_weight.is_some() || of_bias.is_some();
        let wanted = Wanted { inputs: of_x.is_some(), parameters };
        let (x_values, values) = (x.storage(), gradient.storage());
        let found = on_pool(|| match &hidden {
            Some(hidden) => {
                let values = gelus::gelu_backward(path(), hidden.storage(), values);
                layers::linear_backward(path(), x_values, layer, &values, wanted)
            }
            None => layers::linear_backward(path(), x_values, layer, values, wanted),
        });
        if let Some(node) = of_x {
            grads.register::<Flex>(node.id, tensor(found.x, dims(&x)));
        }
        if let Some(node) = of_weight {
            grads.register::<Flex>(node.id, tensor(found.weight, weight.layout().shape().clone()));
        }
        if let Some(node) = of_bias {
            grads.register::<Flex>(node.id, vector(found.bias));
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 1> for AttentionBackward {
    type State = (FlexTensor, usize);

    fn backward(
        self,
        ops: Ops<(FlexTensor, usize), 1>,
        grads: &mut Gradients,
        _: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let ([node], (qkv, count)) = (ops.parents, ops.state);
        if let Some(node) = node {
            let (sizes, values) = (sizes(&qkv, count), gradient.storage());
            let back = || heads::attention_backward(path(), qkv.storage(), values, sizes);
            grads.register::<Flex>(node.id, tensor(on_pool(back), dims(&qkv)));
        }
    }
}

impl<C: CheckpointStrategy> Transformer for Autodiff<Flex, C> {
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let x = x.into_primitive().to_contiguous();
        match GeluBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x.clone(), Flex::fused_gelu(x)),
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_gelu(x)),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node()];
        let [x, scale, shift] = [x, scale, shift].map(|t| t.into_primitive().to_contiguous());
        let out = Flex::fused_layer_norm(x.clone(), scale.clone(), shift.clone(), epsilon);
        match LayerNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(LayerNormState { x, scale, shift, epsilon }, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        settings: LinearSettings,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let [x, weight, bias] = [x, weight, bias].map(|t| t.into_primitive().to_contiguous());
        let LinearSettings { gelu, format } = settings;
        match LinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (out, hidden) = if gelu {
                    let layer = layer(&weight, &bias, format);
                    let [hidden, out] = on_pool(|| layers::linear_gelu(path(), x.storage(), layer));
                    (results(out, &x, &bias), Some(results(hidden, &x, &bias)))
                } else {
                    (Flex::fused_linear(x.clone(), weight.clone(), bias.clone(), settings), None)
                };
                prep.finish(LinearState { x, weight, bias, hidden, format }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_linear(x, weight, bias, settings)),
        }
    }

    fn fused_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let nodes = [qkv.node()];
        let qkv = qkv.into_primitive().to_contiguous();
        let out = Flex::fused_attention(qkv.clone(), heads);
        match AttentionBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((qkv, heads), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
