//! The backend extension: our kernels on burn-flex, with gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, Flex, backend_extension};
use burn::tensor::{DType, Device, Shape, Tensor};
use burn_flex::FlexTensor;

use crate::Norm;
use crate::conv::{self, Geometry};
use crate::norm::{self, After};
use crate::path::{Path, path};

/// Do the kernels run on this device?
pub(crate) fn takes(device: &Device) -> bool {
    let plain = device.clone().without_autodiff();
    path() != Path::Off && matches!(plain.as_dispatch(), DispatchDevice::Flex(_))
}

/// How `norm_act` ends: numbers, because an extension's arguments are plain values.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    epsilon: f64,
    of_batch: bool,
    has_residual: bool,
    relu: bool,
}

/// The operations that the kernels replace. Where there is no residual, the images stand in for it.
#[backend_extension(Autodiff, Flex)]
pub trait Kernels: Backend {
    /// See [`crate::conv2d`].
    fn conv2d(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;

    /// See [`crate::channel_statistics`].
    fn channel_statistics(images: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`crate::norm_act`].
    fn norm_act(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        ending: Ending,
    ) -> FloatTensor<Self>;
}

pub(crate) fn conv2d(images: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let (images, weight) = (images.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Kernels>::conv2d(images, weight, stride))
}

pub(crate) fn channel_statistics(images: Tensor<4>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Kernels>::channel_statistics(images.into_dispatch()))
}

pub(crate) fn norm_act(
    images: Tensor<4>,
    norm: Norm,
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    let ending = Ending {
        epsilon: norm.epsilon,
        of_batch: norm.of_batch,
        has_residual: residual.is_some(),
        relu,
    };
    let residual = residual.unwrap_or_else(|| images.clone());
    Tensor::from_dispatch(<Dispatch as Kernels>::norm_act(
        images.into_dispatch(),
        norm.weight.into_dispatch(),
        norm.bias.into_dispatch(),
        norm.statistics.into_dispatch(),
        residual.into_dispatch(),
        ending,
    ))
}

/// A zeroed tensor of 32-bit floats.
fn zeros(shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::empty(shape.into(), DType::F32)
}

fn vector(values: Vec<f32>) -> FlexTensor {
    let mut tensor = zeros([values.len()]);
    tensor.storage_mut::<f32>().copy_from_slice(&values);
    tensor
}

fn dims(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|i| shape[i])
}

fn geometry(images: &FlexTensor, weight: &FlexTensor, stride: usize) -> Geometry {
    let [batch, height, width, channels] = dims(images);
    let [out, _, kernel, _] = dims(weight);
    Geometry { batch, height, width, channels, out, kernel, stride }
}

impl Kernels for Flex {
    fn conv2d(images: FlexTensor, weight: FlexTensor, stride: usize) -> FlexTensor {
        let (images, weight) = (images.to_contiguous(), weight.to_contiguous());
        let g = geometry(&images, &weight, stride);
        let mut out = zeros([g.batch, g.out_height(), g.out_width(), g.out]);
        conv::forward(path(), g, images.storage(), weight.storage(), out.storage_mut());
        out
    }

    fn channel_statistics(images: FlexTensor) -> FlexTensor {
        let images = images.to_contiguous();
        let mut out = zeros([2, dims(&images)[3]]);
        norm::statistics(path(), images.storage(), out.storage_mut());
        out
    }

    fn norm_act(
        images: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        statistics: FlexTensor,
        residual: FlexTensor,
        ending: Ending,
    ) -> FlexTensor {
        let [images, weight, bias, statistics, residual] =
            [images, weight, bias, statistics, residual].map(|t| t.to_contiguous());
        let affine = norm::scale_shift(
            weight.storage(),
            bias.storage(),
            statistics.storage(),
            ending.epsilon,
        );
        let residual = ending.has_residual.then(|| residual.storage());
        let mut out = zeros(dims(&images));
        let after = After { residual, relu: ending.relu };
        norm::forward(path(), images.storage(), &affine, after, out.storage_mut());
        out
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn conv2d(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct ConvBackward;

        impl Backward<Flex, 2> for ConvBackward {
            type State = (FlexTensor, FlexTensor, usize);

            fn backward(
                self,
                ops: Ops<Self::State, 2>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let [of_images, of_weight] = ops.parents;
                let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
                let (images, weight, stride) = ops.state;
                let g = geometry(&images, &weight, stride);
                if let Some(node) = of_images {
                    let mut out = zeros(dims(&images));
                    let weight = weight.storage();
                    let gradient = gradient.storage();
                    conv::input_gradient(path(), g, gradient, weight, out.storage_mut());
                    grads.register::<Flex>(node.id, out);
                }
                if let Some(node) = of_weight {
                    let mut out = zeros(dims(&weight));
                    let images = images.storage();
                    let gradient = gradient.storage();
                    conv::weight_gradient(path(), g, images, gradient, out.storage_mut());
                    grads.register::<Flex>(node.id, out);
                }
            }
        }

        let nodes = [images.node(), weight.node()];
        let images = images.into_primitive().to_contiguous();
        let weight = weight.into_primitive().to_contiguous();
        let out = Flex::conv2d(images.clone(), weight.clone(), stride);
        match ConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((images, weight, stride), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn channel_statistics(images: FloatTensor<Self>) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(Flex::channel_statistics(images.into_primitive()))
    }

    fn norm_act(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        ending: Ending,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct NormBackward;

        #[derive(Debug, Clone)]
        struct Saved {
            images: FlexTensor,
            weight: FlexTensor,
            statistics: FlexTensor,
            output: FlexTensor,
            ending: Ending,
        }

        impl Backward<Flex, 4> for NormBackward {
            type State = Saved;

            fn backward(
                self,
                ops: Ops<Self::State, 4>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                let [of_images, of_weight, of_bias, of_residual] = ops.parents;
                let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
                let Saved { images, weight, statistics, output, ending } = ops.state;
                let shape = dims(&images);
                let of_residual = of_residual.filter(|_| ending.has_residual);
                let mut dx = zeros(shape);
                let mut dresidual = of_residual.as_ref().map(|_| zeros(shape));
                let start = norm::Backward {
                    gradient: gradient.storage(),
                    output: ending.relu.then(|| output.storage()),
                    x: images.storage(),
                    weight: weight.storage(),
                    stats: statistics.storage(),
                    epsilon: ending.epsilon,
                    of_batch: ending.of_batch,
                };
                let into = dresidual.as_mut().map(|t| t.storage_mut());
                let found = norm::backward(path(), &start, dx.storage_mut(), into);
                if let Some(node) = of_images {
                    grads.register::<Flex>(node.id, dx);
                }
                if let Some(node) = of_weight {
                    grads.register::<Flex>(node.id, vector(found.weight));
                }
                if let Some(node) = of_bias {
                    grads.register::<Flex>(node.id, vector(found.bias));
                }
                if let (Some(node), Some(dresidual)) = (of_residual, dresidual) {
                    grads.register::<Flex>(node.id, dresidual);
                }
            }
        }

        let nodes = [images.node(), weight.node(), bias.node(), residual.node()];
        let [images, weight, bias, statistics, residual] =
            [images, weight, bias, statistics, residual]
                .map(|t| t.into_primitive().to_contiguous());
        let output = Flex::norm_act(
            images.clone(),
            weight.clone(),
            bias,
            statistics.clone(),
            residual,
            ending,
        );
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let saved = Saved { images, weight, statistics, output: output.clone(), ending };
                prep.finish(saved, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
