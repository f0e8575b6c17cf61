//! The operations on burn-flex, without gradients.

use burn::backend::Flex;
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

use super::{Kernels, Settings, UnitTensors};
use crate::block::{self, BlockUnits};
use crate::geometry::Geometry;
use crate::path::path;
use crate::process::on_pool;
use crate::stem;
use crate::unit::Unit;

pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

pub(super) fn vector(values: Vec<f32>) -> FlexTensor {
    let len = values.len();
    tensor(values, [len])
}

pub(super) fn dims(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|i| shape[i])
}

/// Weight, scale and shift of a unit, contiguous.
#[derive(Debug, Clone)]
pub(super) struct Parameters(pub [FlexTensor; 3]);

impl Parameters {
    pub fn new(weight: FlexTensor, scale: FlexTensor, shift: FlexTensor) -> Self {
        Self([weight, scale, shift].map(|t| t.to_contiguous()))
    }

    pub fn of(UnitTensors { weight, scale, shift }: UnitTensors<Flex>) -> Self {
        Self::new(weight, scale, shift)
    }

    pub fn unit(&self, input: [usize; 4], stride: usize, settings: Settings) -> Unit<'_> {
        let [weight, scale, shift] = &self.0;
        let [batch, height, width, channels] = input;
        let [out, _, kernel, _] = dims(weight);
        let Settings { epsilon, format, .. } = settings;
        let geometry = Geometry { batch, height, width, channels, out, kernel, stride, format };
        let (weight, scale, shift) = (weight.storage(), scale.storage(), shift.storage());
        Unit { geometry, weight, scale, shift, epsilon }
    }
}

/// Outputs of a convolution as a tensor.
fn outputs(values: Vec<f32>, g: &Geometry) -> FlexTensor {
    tensor(values, [g.batch, g.out_height(), g.out_width(), g.out])
}

/// A stem's outputs as a tensor.
pub(super) fn stem_outputs(values: Vec<f32>, unit: &Unit, pool: bool) -> FlexTensor {
    let [height, width] = stem::out_size(unit, pool);
    tensor(values, [unit.geometry.batch, height, width, unit.geometry.out])
}

/// The units of a block.
pub(super) fn units<'a>(
    all: &'a [Parameters; 3],
    images: &FlexTensor,
    settings: Settings,
) -> BlockUnits<'a> {
    let (input, stride) = (dims(images), settings.stride);
    let first = all[0].unit(input, stride, settings);
    let g = first.geometry;
    let between = [g.batch, g.out_height(), g.out_width(), g.out];
    let second = all[1].unit(between, 1, settings);
    BlockUnits { first, second, down: settings.down.then(|| all[2].unit(input, stride, settings)) }
}

/// Splits one vector into the `[mean, variance]` of each unit.
pub(super) fn split<'a>(stats: &'a [f32], units: &BlockUnits) -> [&'a [f32]; 3] {
    let (first, rest) = stats.split_at(2 * units.first.geometry.out);
    let (second, down) = rest.split_at(2 * units.second.geometry.out);
    [first, second, down]
}

/// Runs a block and returns what the backward pass needs: output, y1, y2, yd, statistics.
pub(super) fn full_block(
    images: &FlexTensor,
    all: &[Parameters; 3],
    running: &FlexTensor,
    settings: Settings,
) -> ([FlexTensor; 4], Vec<f32>) {
    let units = units(all, images, settings);
    let running = running.to_contiguous();
    let fixed = (!settings.of_batch).then(|| split(running.storage(), &units));
    let x = images.storage();
    let done = on_pool(|| block::block(path(), x, &units, fixed));
    let g = &units.second.geometry;
    let [out, y1, y2] = [done.out, done.y1, done.y2].map(|values| outputs(values, g));
    ([out, y1, y2, vector(done.yd)], done.stats.concat())
}

impl Kernels for Flex {
    fn stem(
        images: FlexTensor,
        weight: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        running: FlexTensor,
        settings: Settings,
    ) -> (FlexTensor, FlexTensor) {
        let images = images.to_contiguous();
        let parameters = Parameters::new(weight, scale, shift);
        let Settings { stride, of_batch, pool, .. } = settings;
        let unit = parameters.unit(dims(&images), stride, settings);
        let x = images.storage();
        let (out, stats) = if of_batch {
            let done = on_pool(|| stem::stem(path(), x, &unit, pool, None));
            (done.out, vector(done.stats))
        } else {
            let running = running.to_contiguous();
            let stats = running.storage();
            let out = on_pool(|| stem::stem_fixed(path(), x, &unit, pool, stats));
            (out, running)
        };
        (stem_outputs(out, &unit, pool), stats)
    }

    fn basic_block(
        images: FlexTensor,
        first: UnitTensors<Self>,
        second: UnitTensors<Self>,
        down: UnitTensors<Self>,
        running: FlexTensor,
        settings: Settings,
    ) -> (FlexTensor, FlexTensor) {
        let images = images.to_contiguous();
        let all = [first, second, down].map(Parameters::of);
        if settings.of_batch {
            let ([out, ..], stats) = full_block(&images, &all, &running, settings);
            return (out, vector(stats));
        }
        let units = units(&all, &images, settings);
        let running = running.to_contiguous();
        let fixed = split(running.storage(), &units);
        let x = images.storage();
        let out = on_pool(|| block::block_fixed(path(), x, &units, fixed));
        (outputs(out, &units.second.geometry), running)
    }
}
