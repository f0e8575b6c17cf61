//! The backend extension: our kernels on burn-flex, with gradients.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, Flex, backend_extension};
use burn::tensor::{Device, Tensor, TensorData, s};
use burn_flex::FlexTensor;

use crate::conv::Geometry;
use crate::layer::{self, BlockSaved, BlockUnits, LayerSaved, Unit, UnitGradients};
use crate::path::{Path, path};
use crate::scratch::unset;

/// Do the kernels run on this device?
pub(crate) fn takes(device: &Device) -> bool {
    let plain = device.clone().without_autodiff();
    path() != Path::Off && matches!(plain.as_dispatch(), DispatchDevice::Flex(_))
}

/// What is no tensor in an operation.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    stride: usize,
    epsilon: f64,
    /// Whether the statistics are those of the batch, not the given ones.
    of_batch: bool,
    /// Whether a block has a downsampling.
    down: bool,
}

/// The operations. Where a tensor is not needed, another stands in for it. The second output is
/// `[mean, variance]` of each unit, one unit after the other, `[2 · channels of all]`.
#[backend_extension(Autodiff, Flex)]
pub trait Kernels: Backend {
    /// See [`crate::conv_norm_relu`].
    fn conv_norm_relu(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        running: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::basic_block`].
    #[allow(clippy::too_many_arguments, reason = "the parameters of three units")]
    fn basic_block(
        images: FloatTensor<Self>,
        weight1: FloatTensor<Self>,
        scale1: FloatTensor<Self>,
        shift1: FloatTensor<Self>,
        weight2: FloatTensor<Self>,
        scale2: FloatTensor<Self>,
        shift2: FloatTensor<Self>,
        weight_down: FloatTensor<Self>,
        scale_down: FloatTensor<Self>,
        shift_down: FloatTensor<Self>,
        running: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

pub(crate) fn conv_norm_relu(images: Tensor<4>, unit: crate::Unit) -> (Tensor<4>, Tensor<2>) {
    let channels = unit.scale.dims()[0];
    let settings = Settings {
        stride: unit.stride,
        epsilon: unit.epsilon,
        of_batch: unit.running.is_none(),
        down: false,
    };
    let running = unit.running.map_or_else(|| unit.scale.clone(), |r| r.reshape([2 * channels]));
    let (out, stats) = <Dispatch as Kernels>::conv_norm_relu(
        images.into_dispatch(),
        unit.weight.into_dispatch(),
        unit.scale.into_dispatch(),
        unit.shift.into_dispatch(),
        running.into_dispatch(),
        settings,
    );
    let stats = Tensor::<1>::from_dispatch(stats);
    (Tensor::from_dispatch(out), stats.reshape([2, channels]))
}

pub(crate) fn basic_block(
    images: Tensor<4>,
    first: crate::Unit,
    second: crate::Unit,
    down: Option<crate::Unit>,
) -> (Tensor<4>, Vec<Tensor<2>>) {
    let settings = Settings {
        stride: first.stride,
        epsilon: first.epsilon,
        of_batch: first.running.is_none(),
        down: down.is_some(),
    };
    let all = [Some(&first), Some(&second), down.as_ref()];
    let channels: Vec<usize> = all.iter().flatten().map(|u| u.scale.dims()[0]).collect();
    let running: Vec<Tensor<1>> = all
        .iter()
        .flatten()
        .filter_map(|u| u.running.clone().map(|r| r.reshape([2 * u.scale.dims()[0]])))
        .collect();
    let running = if running.is_empty() { first.scale.clone() } else { Tensor::cat(running, 0) };
    let down = down.unwrap_or_else(|| second.clone());
    let (out, stats) = <Dispatch as Kernels>::basic_block(
        images.into_dispatch(),
        first.weight.into_dispatch(),
        first.scale.into_dispatch(),
        first.shift.into_dispatch(),
        second.weight.into_dispatch(),
        second.scale.into_dispatch(),
        second.shift.into_dispatch(),
        down.weight.into_dispatch(),
        down.scale.into_dispatch(),
        down.shift.into_dispatch(),
        running.into_dispatch(),
        settings,
    );
    let stats = Tensor::<1>::from_dispatch(stats);
    let mut at = 0;
    let split = channels.iter().map(|&channels| {
        let part = stats.clone().slice(s![at..at + 2 * channels]);
        at += 2 * channels;
        part.reshape([2, channels])
    });
    (Tensor::from_dispatch(out), split.collect())
}

/// Runs `work` on a thread of the pool: its parallel parts then start without waking one first.
fn on_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn vector(values: Vec<f32>) -> FlexTensor {
    let len = values.len();
    tensor(values, [len])
}

fn dims(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|i| shape[i])
}

/// Weight, scale and shift of a unit, contiguous.
#[derive(Debug, Clone)]
struct Parameters([FlexTensor; 3]);

impl Parameters {
    fn new(weight: FlexTensor, scale: FlexTensor, shift: FlexTensor) -> Self {
        Self([weight, scale, shift].map(|t| t.to_contiguous()))
    }

    fn unit(&self, input: [usize; 4], stride: usize, epsilon: f64) -> Unit<'_> {
        let [weight, scale, shift] = &self.0;
        let [batch, height, width, channels] = input;
        let [out, _, kernel, _] = dims(weight);
        let geometry = Geometry { batch, height, width, channels, out, kernel, stride };
        let (weight, scale, shift) = (weight.storage(), scale.storage(), shift.storage());
        Unit { geometry, weight, scale, shift, epsilon }
    }
}

/// Outputs of a convolution as a tensor.
fn outputs(values: Vec<f32>, g: &Geometry) -> FlexTensor {
    tensor(values, [g.batch, g.out_height(), g.out_width(), g.out])
}

/// A layer with what the way back needs.
fn full_layer(
    images: &FlexTensor,
    parameters: &Parameters,
    running: &FlexTensor,
    settings: Settings,
) -> ([FlexTensor; 2], Vec<f32>) {
    let unit = parameters.unit(dims(images), settings.stride, settings.epsilon);
    let running = running.to_contiguous();
    let fixed = (!settings.of_batch).then(|| running.storage());
    let x = images.storage();
    let done = on_pool(|| layer::layer(path(), x, &unit, fixed));
    ([done.out, done.y].map(|values| outputs(values, &unit.geometry)), done.stats)
}

/// The units of a block.
fn units<'a>(
    all: &'a [Parameters; 3],
    images: &FlexTensor,
    Settings { stride, epsilon, down, .. }: Settings,
) -> BlockUnits<'a> {
    let input = dims(images);
    let first = all[0].unit(input, stride, epsilon);
    let g = first.geometry;
    let between = [g.batch, g.out_height(), g.out_width(), g.out];
    let second = all[1].unit(between, 1, epsilon);
    BlockUnits { first, second, down: down.then(|| all[2].unit(input, stride, epsilon)) }
}

/// `[mean, variance]` of each unit out of one vector.
fn split<'a>(stats: &'a [f32], units: &BlockUnits) -> [&'a [f32]; 3] {
    let (first, rest) = stats.split_at(2 * units.first.geometry.out);
    let (second, down) = rest.split_at(2 * units.second.geometry.out);
    [first, second, down]
}

/// A block with what the way back needs: output, y1, y2, yd, statistics.
fn full_block(
    images: &FlexTensor,
    all: &[Parameters; 3],
    running: &FlexTensor,
    settings: Settings,
) -> ([FlexTensor; 4], Vec<f32>) {
    let units = units(all, images, settings);
    let running = running.to_contiguous();
    let fixed = (!settings.of_batch).then(|| split(running.storage(), &units));
    let x = images.storage();
    let done = on_pool(|| layer::block(path(), x, &units, fixed));
    let g = &units.second.geometry;
    let [out, y1, y2] = [done.out, done.y1, done.y2].map(|values| outputs(values, g));
    ([out, y1, y2, vector(done.yd)], done.stats.concat())
}

impl Kernels for Flex {
    fn conv_norm_relu(
        images: FlexTensor,
        weight: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        running: FlexTensor,
        settings: Settings,
    ) -> (FlexTensor, FlexTensor) {
        let parameters = Parameters::new(weight, scale, shift);
        let ([out, _], stats) =
            full_layer(&images.to_contiguous(), &parameters, &running, settings);
        (out, vector(stats))
    }

    fn basic_block(
        images: FlexTensor,
        weight1: FlexTensor,
        scale1: FlexTensor,
        shift1: FlexTensor,
        weight2: FlexTensor,
        scale2: FlexTensor,
        shift2: FlexTensor,
        weight_down: FlexTensor,
        scale_down: FlexTensor,
        shift_down: FlexTensor,
        running: FlexTensor,
        settings: Settings,
    ) -> (FlexTensor, FlexTensor) {
        let images = images.to_contiguous();
        let all = [
            Parameters::new(weight1, scale1, shift1),
            Parameters::new(weight2, scale2, shift2),
            Parameters::new(weight_down, scale_down, shift_down),
        ];
        if settings.of_batch {
            let ([out, ..], stats) = full_block(&images, &all, &running, settings);
            return (out, vector(stats));
        }
        let units = units(&all, &images, settings);
        let running = running.to_contiguous();
        let fixed = split(running.storage(), &units);
        let x = images.storage();
        let out = on_pool(|| layer::block_fixed(path(), x, &units, fixed));
        (outputs(out, &units.second.geometry), running)
    }
}

/// Registers the gradients of a unit's parameters where they are wanted.
fn register(
    grads: &mut Gradients,
    nodes: [Option<NodeId>; 3],
    found: UnitGradients,
    of: &Parameters,
) {
    let [weight, scale, shift] = nodes;
    if let Some(node) = weight {
        grads.register::<Flex>(node, tensor(found.weight, dims(&of.0[0])));
    }
    if let Some(node) = scale {
        grads.register::<Flex>(node, vector(found.scale));
    }
    if let Some(node) = shift {
        grads.register::<Flex>(node, vector(found.shift));
    }
}

#[derive(Debug)]
struct LayerBackward;

#[derive(Debug, Clone)]
struct LayerState {
    images: FlexTensor,
    parameters: Parameters,
    /// Output and convolution.
    results: [FlexTensor; 2],
    stats: Vec<f32>,
    settings: Settings,
}

impl Backward<Flex, 4> for LayerBackward {
    type State = LayerState;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [of_images, weight, scale, shift] = ops.parents.map(|node| node.map(|n| n.id));
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let LayerState { images, parameters, results, stats, settings } = ops.state;
        let unit = parameters.unit(dims(&images), settings.stride, settings.epsilon);
        let [out, y] = results.each_ref().map(|t| t.storage());
        let saved = LayerSaved { out, y, stats: &stats, of_batch: settings.of_batch };
        let mut dx = of_images.map(|_| unset(images.storage::<f32>().len()));
        let into = dx.as_deref_mut();
        let x = images.storage();
        let gradient = gradient.storage();
        let found = on_pool(|| layer::layer_backward(path(), x, &unit, &saved, gradient, into));
        if let (Some(node), Some(dx)) = (of_images, dx) {
            grads.register::<Flex>(node, tensor(dx, dims(&images)));
        }
        register(grads, [weight, scale, shift], found, &parameters);
    }
}

#[derive(Debug)]
struct BlockBackward;

#[derive(Debug, Clone)]
struct BlockState {
    images: FlexTensor,
    all: [Parameters; 3],
    /// Output and convolutions.
    results: [FlexTensor; 4],
    stats: Vec<f32>,
    settings: Settings,
}

impl Backward<Flex, 10> for BlockBackward {
    type State = BlockState;

    fn backward(
        self,
        ops: Ops<Self::State, 10>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [of_images, w1, s1, h1, w2, s2, h2, wd, sd, hd] =
            ops.parents.map(|node| node.map(|n| n.id));
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let BlockState { images, all, results, stats, settings } = ops.state;
        let units = units(&all, &images, settings);
        let [out, y1, y2, yd] = results.each_ref().map(|t| t.storage());
        let stats = split(&stats, &units);
        let saved = BlockSaved { out, y1, y2, yd, stats, of_batch: settings.of_batch };
        let mut dx = of_images.map(|_| unset(images.storage::<f32>().len()));
        let into = dx.as_deref_mut();
        let x = images.storage();
        let gradient = gradient.storage();
        let (one, two, down) =
            on_pool(|| layer::block_backward(path(), x, &units, &saved, gradient, into));
        if let (Some(node), Some(dx)) = (of_images, dx) {
            grads.register::<Flex>(node, tensor(dx, dims(&images)));
        }
        register(grads, [w1, s1, h1], one, &all[0]);
        register(grads, [w2, s2, h2], two, &all[1]);
        if let Some(down) = down {
            register(grads, [wd, sd, hd], down, &all[2]);
        }
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn conv_norm_relu(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        running: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [images.node(), weight.node(), scale.node(), shift.node()];
        let [images, weight, scale, shift, running] =
            [images, weight, scale, shift, running].map(|t| t.into_primitive());
        match LayerBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let images = images.to_contiguous();
                let parameters = Parameters::new(weight, scale, shift);
                let (results, stats) = full_layer(&images, &parameters, &running, settings);
                let (out, second) = (results[0].clone(), vector(stats.clone()));
                let state = LayerState { images, parameters, results, stats, settings };
                (prep.finish(state, out), FloatTensor::<Self>::new(second))
            }
            OpsKind::UnTracked(prep) => {
                let (out, stats) =
                    Flex::conv_norm_relu(images, weight, scale, shift, running, settings);
                (prep.finish(out), FloatTensor::<Self>::new(stats))
            }
        }
    }

    fn basic_block(
        images: FloatTensor<Self>,
        weight1: FloatTensor<Self>,
        scale1: FloatTensor<Self>,
        shift1: FloatTensor<Self>,
        weight2: FloatTensor<Self>,
        scale2: FloatTensor<Self>,
        shift2: FloatTensor<Self>,
        weight_down: FloatTensor<Self>,
        scale_down: FloatTensor<Self>,
        shift_down: FloatTensor<Self>,
        running: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let tracked = [
            images,
            weight1,
            scale1,
            shift1,
            weight2,
            scale2,
            shift2,
            weight_down,
            scale_down,
            shift_down,
        ];
        let nodes = tracked.each_ref().map(|t| t.node());
        let [images, w1, s1, h1, w2, s2, h2, wd, sd, hd] = tracked.map(|t| t.into_primitive());
        let running = running.into_primitive();
        match BlockBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let images = images.to_contiguous();
                let all = [
                    Parameters::new(w1, s1, h1),
                    Parameters::new(w2, s2, h2),
                    Parameters::new(wd, sd, hd),
                ];
                let (results, stats) = full_block(&images, &all, &running, settings);
                let (out, second) = (results[0].clone(), vector(stats.clone()));
                let state = BlockState { images, all, results, stats, settings };
                (prep.finish(state, out), FloatTensor::<Self>::new(second))
            }
            OpsKind::UnTracked(prep) => {
                let (out, stats) = Flex::basic_block(
                    images, w1, s1, h1, w2, s2, h2, wd, sd, hd, running, settings,
                );
                (prep.finish(out), FloatTensor::<Self>::new(stats))
            }
        }
    }
}
