//! The backend extension: our kernels on burn-flex, with gradients.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, ExtensionType, backend_extension};
use burn::tensor::{Device, Tensor, s};

use crate::layer::Unit;
use crate::multiply::format;
use crate::pairs::Format;
use crate::path::{Path, path};

mod autodiff;
mod flex;

/// Whether the kernels run on this device.
pub(crate) fn takes(device: &Device) -> bool {
    path() != Path::Off && is_cpu(device)
}

/// Whether this device is burn-flex.
pub(crate) fn is_cpu(device: &Device) -> bool {
    let plain = device.clone().without_autodiff();
    matches!(plain.as_dispatch(), DispatchDevice::Flex(_))
}

/// The arguments of an operation that are not tensors.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    stride: usize,
    epsilon: f64,
    /// The number format of the products.
    format: Format,
    /// Whether to use the statistics of the batch instead of the given ones.
    of_batch: bool,
    /// Whether a block has a downsampling.
    down: bool,
    /// Whether a stem has a max-pool.
    pool: bool,
}

/// The learnt tensors of a convolution and its batch norm.
#[derive(ExtensionType)]
pub struct UnitTensors<B: Backend> {
    weight: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
}

/// The operations. If a tensor is not needed, another is passed in its place. The second output is
/// `[mean, variance]` of each unit, one unit after the other, `[2 · channels of all]`.
#[backend_extension(Autodiff, Flex)]
pub trait Kernels: Backend {
    /// See [`crate::stem`].
    fn stem(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        running: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`crate::basic_block`].
    fn basic_block(
        images: FloatTensor<Self>,
        #[extension_type] first: UnitTensors<Self>,
        #[extension_type] second: UnitTensors<Self>,
        #[extension_type] down: UnitTensors<Self>,
        running: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl Unit {
    fn into_tensors(self) -> UnitTensors<Dispatch> {
        UnitTensors {
            weight: self.weight.into_dispatch(),
            scale: self.scale.into_dispatch(),
            shift: self.shift.into_dispatch(),
        }
    }
}

pub(crate) fn stem(images: Tensor<4>, unit: Unit, pool: bool) -> (Tensor<4>, Tensor<2>) {
    let channels = unit.scale.dims()[0];
    let settings = Settings {
        stride: unit.stride,
        epsilon: unit.epsilon,
        format: format(),
        of_batch: unit.running.is_none(),
        down: false,
        pool,
    };
    let running = unit.running.map_or_else(|| unit.scale.clone(), |r| r.reshape([2 * channels]));
    let (out, stats) = <Dispatch as Kernels>::stem(
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
    first: Unit,
    second: Unit,
    down: Option<Unit>,
) -> (Tensor<4>, Vec<Tensor<2>>) {
    let settings = Settings {
        stride: first.stride,
        epsilon: first.epsilon,
        format: format(),
        of_batch: first.running.is_none(),
        down: down.is_some(),
        pool: false,
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
        first.into_tensors(),
        second.into_tensors(),
        down.into_tensors(),
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
