//! One convolution over a batch: packed weights, and the pass over groups of images. `backward` is the backward pass.

use crate::fill::{Slot, fill};
use crate::gather::{Axis, Gather, Inputs, Padded, Weights};
use crate::geometry::Geometry;
use crate::pairs::{Format, pair_channels};
use crate::path::Path;
use crate::scratch::{Aligned, Scratch, scratch};
use crate::winograd::{self, Kernels, Winograd};

mod backward;
mod weights;

pub(crate) use backward::{Back, Branch, backward};

/// An algorithm that convolves groups of padded images, with the weights packed for it.
pub(crate) enum Packed {
    Direct { gather: Gather, weights: Aligned },
    Winograd(Winograd),
}

impl Packed {
    /// The format of the images it reads. Winograd reads floats; it forms pairs after its transform.
    pub fn reads(&self) -> Format {
        match self {
            Self::Direct { gather, .. } => gather.format(),
            Self::Winograd(_) => Format::Floats,
        }
    }

    /// A group of padded images in the format of [`run`](Self::run); `rows(image, row, to)` writes their rows.
    pub fn group(
        &self,
        path: Path,
        padded: Padded,
        images: usize,
        rows: impl Fn(usize, usize, &mut [f32]),
    ) -> Scratch {
        let places = padded.places(self.reads());
        let mut x = scratch(images * places.len());
        match self.reads() {
            Format::Floats => places.fill_group(&mut x, rows),
            Format::Pairs => {
                let [_, width, channels] = padded.inner;
                let mut floats = scratch(width * channels);
                places.fill_group(&mut x, |image, y, row| {
                    rows(image, y, &mut floats);
                    pair_channels(path, &floats, channels, row);
                });
            }
        }
        x
    }

    pub fn run(&self, path: Path, x: &[f32], y: &mut [f32], images: usize, add: bool) {
        match self {
            Self::Direct { gather, weights } => {
                let weights = Weights { packed: weights, stride: gather.block() };
                gather.run(path, Inputs { padded: x, weights }, y, images, add);
            }
            Self::Winograd(winograd) => winograd.run(path, x, y, images, add),
        }
    }

    /// Initialises `y`, which holds `images` images: the outputs of this convolution, and zeros elsewhere.
    pub fn begin<'a>(
        &self,
        path: Path,
        x: &[f32],
        y: &'a mut [Slot],
        images: usize,
    ) -> &'a mut [f32] {
        match self {
            Self::Direct { gather, weights } => {
                let weights = Weights { packed: weights, stride: gather.block() };
                gather.begin(path, Inputs { padded: x, weights }, y, images)
            }
            Self::Winograd(winograd) => winograd.begin(path, x, y, images),
        }
    }

    /// The forward pass for groups with the layout `padded`.
    pub fn forward(path: Path, g: &Geometry, padded: Padded, weight: &[f32]) -> Self {
        let taps = g.kernel * g.kernel;
        let [from, to] = [taps, g.channels * taps];
        if winograd::takes(g) {
            let kernels = Kernels { values: weight, from, to, flip: false, format: g.format };
            return Self::Winograd(Winograd::new(path, padded, g.out, g.group(), kernels));
        }
        let [(top, _), (left, _)] = padded.pad;
        let rows = Axis::forward(g.height, g.out_height(), g.kernel, g.stride, top);
        let columns = Axis::forward(g.width, g.out_width(), g.kernel, g.stride, left);
        let out = [g.out_width(), g.out_height() * g.out_width(), g.out];
        let gather = Gather::new(padded, &rows, &columns, out, g.group(), g.format);
        let weights = gather.pack(weight, g.kernel, from, to);
        Self::Direct { gather, weights }
    }

    /// The input gradient: one gather per residue of the position (mod stride), so that no work is spent
    /// on zeros between the output gradients of a strided convolution.
    pub fn backward(path: Path, g: &Geometry, padded: Padded, weight: &[f32]) -> Vec<Self> {
        let taps = g.kernel * g.kernel;
        let [from, to] = [g.channels * taps, taps];
        if winograd::takes(g) {
            let kernels = Kernels { values: weight, from, to, flip: true, format: g.format };
            let way = Winograd::new(path, padded, g.channels, g.group(), kernels);
            return vec![Self::Winograd(way)];
        }
        let [(top, _), (left, _)] = padded.pad;
        let axis = |len, out, residue, before| {
            Axis::backward(len, out, g.kernel, g.stride, residue, before)
        };
        let residues = |len: usize| 0..g.stride.min(len);
        let mut all = Vec::new();
        for y in residues(g.height) {
            for x in residues(g.width) {
                let rows = axis(g.height, g.out_height(), y, top);
                let columns = axis(g.width, g.out_width(), x, left);
                let out = [g.width, g.height * g.width, g.channels];
                let gather = Gather::new(padded, &rows, &columns, out, g.group(), g.format);
                let weights = gather.pack(weight, g.kernel, from, to);
                all.push(Self::Direct { gather, weights });
            }
        }
        all
    }
}

/// Convolves a batch, group by group. `rows(image, row, to)` writes the input rows; `after(first image,
/// outputs of the group)` receives each group while it is in the cache; its results are in group order.
pub(crate) fn forward<T: Send>(
    path: Path,
    g: &Geometry,
    weight: &[f32],
    rows: impl Fn(usize, usize, &mut [f32]) + Sync,
    after: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let padded = g.padded();
    let packed = Packed::forward(path, g, padded, weight);
    let (group, result) = (g.group(), g.result());
    fill(g.batch * result, group * result, 0..g.batch.div_ceil(group), |i, output| {
        let images = output.left() / result;
        let x = packed.group(path, padded, images, |j, y, row| rows(i * group + j, y, row));
        after(i * group, output.rest(|slots| packed.begin(path, &x, slots, images)))
    })
}
