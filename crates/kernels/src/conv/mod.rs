//! One convolution over a batch: geometry, packed weights, and the pass over groups of images; the way back is in `backward`.

use crate::fill::{Slot, fill};
use crate::gather::{Axis, Gather, Padded, Weights};
use crate::path::Path;
use crate::scratch::{Aligned, scratch};
use crate::winograd::{self, Winograd};

mod backward;

pub(crate) use backward::{Branch, backward};

/// Output pixels that a group of images has at least, so that a slab of weights is read for many.
const GROUP_PIXELS: usize = if cfg!(miri) { 8 } else { 128 };
/// Parts of a batch that sum weight gradients of their own, at most.
const PARTS: usize = 16;

/// The sizes of a convolution, padded by half the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
}

impl Geometry {
    pub fn out_height(&self) -> usize {
        self.height.div_ceil(self.stride)
    }

    pub fn out_width(&self) -> usize {
        self.width.div_ceil(self.stride)
    }

    /// Floats in an input image.
    pub fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Floats in an output image.
    pub fn result(&self) -> usize {
        self.out_height() * self.out_width() * self.out
    }

    pub fn weights(&self) -> usize {
        self.kernel * self.kernel * self.channels * self.out
    }

    /// Images in a group: all groups but the last have as many, and the last hardly fewer.
    pub fn group(&self) -> usize {
        let least = GROUP_PIXELS.div_ceil(self.out_height() * self.out_width());
        self.batch.div_ceil((self.batch / least).max(1))
    }

    /// Images in a part of the batch for the weight gradient, whole groups. It depends on the sizes
    /// alone: the parts are summed in their order, so the number of threads changes nothing.
    fn part(&self) -> usize {
        self.batch.div_ceil(PARTS).next_multiple_of(self.group())
    }

    /// The padded images, with at least `half` zeros before.
    pub fn padded(&self) -> Padded {
        let half = self.kernel / 2;
        let axis = |len, out| Axis::forward(len, out, self.kernel, self.stride, half).pad;
        Padded {
            inner: [self.height, self.width, self.channels],
            pad: [axis(self.height, self.out_height()), axis(self.width, self.out_width())],
        }
    }

    /// The padded output gradient, for the input gradient at every residue.
    pub fn padded_gradient(&self) -> Padded {
        let pad = |len, out| {
            (0..self.stride.min(len))
                .map(|r| Axis::backward(len, out, self.kernel, self.stride, r, self.kernel).pad)
                .fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)))
        };
        Padded {
            inner: [self.out_height(), self.out_width(), self.out],
            pad: [pad(self.height, self.out_height()), pad(self.width, self.out_width())],
        }
    }
}

/// A way to convolve groups of padded images, with the weights as it reads them.
pub(crate) enum Packed {
    Direct { gather: Gather, weights: Aligned },
    Winograd(Winograd),
}

impl Packed {
    pub fn run(&self, path: Path, x: &[f32], y: &mut [f32], images: usize, add: bool) {
        match self {
            Self::Direct { gather, weights } => {
                let weights = Weights { packed: weights, stride: gather.block() };
                gather.run(path, x, weights, y, images, add);
            }
            Self::Winograd(winograd) => winograd.run(path, x, y, images, add),
        }
    }

    /// Gives `images` images, which are all of `y`, their values: those that this way makes, zero elsewhere.
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
                gather.begin(path, x, weights, y, images)
            }
            Self::Winograd(winograd) => winograd.begin(path, x, y, images),
        }
    }

    /// The forward pass of groups padded as `padded` says.
    pub fn forward(path: Path, g: &Geometry, padded: Padded, weight: &[f32]) -> Self {
        let taps = g.kernel * g.kernel;
        let [from, to] = [taps, g.channels * taps];
        if winograd::takes(g) {
            let group = g.group();
            let way = Winograd::new(path, padded, g.out, group, weight, [from, to], false);
            return Self::Winograd(way);
        }
        let [(top, _), (left, _)] = padded.pad;
        let rows = Axis::forward(g.height, g.out_height(), g.kernel, g.stride, top);
        let columns = Axis::forward(g.width, g.out_width(), g.kernel, g.stride, left);
        let out = [g.out_width(), g.out_height() * g.out_width(), g.out];
        let gather = Gather::new(padded, &rows, &columns, out, g.group());
        let weights = gather.pack(weight, g.kernel, from, to);
        Self::Direct { gather, weights }
    }

    /// The input gradient: one gather for each residue of the position, so that no work is spent on
    /// zeros between the output gradients of a strided convolution.
    pub fn backward(path: Path, g: &Geometry, padded: Padded, weight: &[f32]) -> Vec<Self> {
        let taps = g.kernel * g.kernel;
        let [from, to] = [g.channels * taps, taps];
        if winograd::takes(g) {
            let group = g.group();
            let way = Winograd::new(path, padded, g.channels, group, weight, [from, to], true);
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
                let gather = Gather::new(padded, &rows, &columns, out, g.group());
                let weights = gather.pack(weight, g.kernel, from, to);
                all.push(Self::Direct { gather, weights });
            }
        }
        all
    }
}

/// Convolves a batch, group by group. `rows(image, row, to)` gives the input rows; `after(first image,
/// outputs of the group)` sees each group while it is in the cache, and its results come in order.
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
        let mut x = scratch(images * padded.len());
        padded.fill_group(&mut x, |j, y, row| rows(i * group + j, y, row));
        after(i * group, output.rest(|slots| packed.begin(path, &x, slots, images)))
    })
}
