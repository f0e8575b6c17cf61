//! The operations on the autodiff backend, with gradients.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn_flex::FlexTensor;

use super::flex::{Parameters, dims, full_block, split, stem_outputs, tensor, units, vector};
use super::{Kernels, Settings, UnitTensors};
use crate::block::{self, BlockSaved};
use crate::path::path;
use crate::process::on_pool;
use crate::stem::{self, StemSaved};
use crate::unit::UnitGradients;
use crate::wanted::Wanted;

/// Registers the gradients of those parameters of a unit that are tracked.
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
struct StemBackward;

#[derive(Debug, Clone)]
struct StemState {
    images: FlexTensor,
    parameters: Parameters,
    out: FlexTensor,
    /// The convolution's outputs.
    y: Vec<f32>,
    winners: Vec<u8>,
    stats: Vec<f32>,
    settings: Settings,
}

impl Backward<Flex, 4> for StemBackward {
    type State = StemState;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [of_images, weight, scale, shift] = ops.parents.map(|node| node.map(|n| n.id));
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let StemState { images, parameters, out, y, winners, stats, settings } = ops.state;
        let unit = parameters.unit(dims(&images), settings.stride, settings);
        let (out, of_batch) = (out.storage(), settings.of_batch);
        let saved = StemSaved { out, y: &y, winners: &winners, stats: &stats, of_batch };
        let learnt = [weight, scale, shift].iter().any(Option::is_some);
        let wanted = Wanted { inputs: of_images.is_some(), parameters: learnt };
        let (x, gradient) = (images.storage(), gradient.storage());
        let (found, dx) =
            on_pool(|| stem::stem_backward(path(), x, &unit, &saved, gradient, wanted));
        if let Some(node) = of_images {
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
    /// The block's output and the outputs of its convolutions.
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
        let learnt = [w1, s1, h1, w2, s2, h2, wd, sd, hd].iter().any(Option::is_some);
        let wanted = Wanted { inputs: of_images.is_some(), parameters: learnt };
        let (x, gradient) = (images.storage(), gradient.storage());
        let found = on_pool(|| block::block_backward(path(), x, &units, &saved, gradient, wanted));
        if let Some(node) = of_images {
            grads.register::<Flex>(node, tensor(found.images, dims(&images)));
        }
        register(grads, [w1, s1, h1], found.first, &all[0]);
        register(grads, [w2, s2, h2], found.second, &all[1]);
        if let Some(down) = found.down {
            register(grads, [wd, sd, hd], down, &all[2]);
        }
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn stem(
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
        match StemBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let images = images.to_contiguous();
                let parameters = Parameters::new(weight, scale, shift);
                let Settings { stride, of_batch, pool, .. } = settings;
                let unit = parameters.unit(dims(&images), stride, settings);
                let running = running.to_contiguous();
                let fixed = (!of_batch).then(|| running.storage());
                let x = images.storage();
                let done = on_pool(|| stem::stem(path(), x, &unit, pool, fixed));
                let out = stem_outputs(done.out, &unit, pool);
                let (y, winners, stats) = (done.y, done.winners, done.stats);
                let results = (out.clone(), vector(stats.clone()));
                let state = StemState { images, parameters, out, y, winners, stats, settings };
                (prep.finish(state, results.0), FloatTensor::<Self>::new(results.1))
            }
            OpsKind::UnTracked(prep) => {
                let (out, stats) = Flex::stem(images, weight, scale, shift, running, settings);
                (prep.finish(out), FloatTensor::<Self>::new(stats))
            }
        }
    }

    fn basic_block(
        images: FloatTensor<Self>,
        first: UnitTensors<Self>,
        second: UnitTensors<Self>,
        down: UnitTensors<Self>,
        running: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let tracked = [
            images,
            first.weight,
            first.scale,
            first.shift,
            second.weight,
            second.scale,
            second.shift,
            down.weight,
            down.scale,
            down.shift,
        ];
        let nodes = tracked.each_ref().map(|t| t.node());
        let [images, w1, s1, h1, w2, s2, h2, wd, sd, hd] = tracked.map(|t| t.into_primitive());
        let units = [[w1, s1, h1], [w2, s2, h2], [wd, sd, hd]];
        let units = units.map(|[weight, scale, shift]| UnitTensors { weight, scale, shift });
        let running = running.into_primitive();
        match BlockBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let images = images.to_contiguous();
                let all = units.map(Parameters::of);
                let (results, stats) = full_block(&images, &all, &running, settings);
                let (out, second) = (results[0].clone(), vector(stats.clone()));
                let state = BlockState { images, all, results, stats, settings };
                (prep.finish(state, out), FloatTensor::<Self>::new(second))
            }
            OpsKind::UnTracked(prep) => {
                let [first, second, down] = units;
                let (out, stats) =
                    Flex::basic_block(images, first, second, down, running, settings);
                (prep.finish(out), FloatTensor::<Self>::new(stats))
            }
        }
    }
}
