//! One convolution over a batch: geometry, packed weights, and the passes over groups of images.

use std::ops::Range;

use rayon::prelude::*;

use crate::gather::{Axis, Gather, Padded, Weights};
use crate::outer::{Outer, SPARE};
use crate::path::Path;
use crate::scratch::{Aligned, scratch};
use crate::winograd::{self, Winograd};

/// Output pixels that a group of images has at least, so that a slab of weights is read for many.
const GROUP_PIXELS: usize = 128;
/// Parts of a batch that sum weight gradients of their own, at most.
const PARTS: usize = 16;
/// Above this many weights, threads share the weight gradient instead of the batch.
const LARGE: usize = 1 << 17;

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

/// Convolves a batch, group by group. `fill(image, row, to)` gives the input rows; `after(first image,
/// outputs of the group)` sees each group while it is in the cache, and its results come in order.
pub(crate) fn forward<T: Send>(
    path: Path,
    g: &Geometry,
    weight: &[f32],
    output: &mut [f32],
    fill: impl Fn(usize, usize, &mut [f32]) + Sync,
    after: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> Vec<T> {
    let padded = g.padded();
    let packed = Packed::forward(path, g, padded, weight);
    let group = g.group();
    output
        .par_chunks_mut(group * g.result())
        .enumerate()
        .map(|(i, output)| {
            let images = output.len() / g.result();
            let mut x = scratch(images * padded.len());
            padded.fill_group(&mut x, |j, y, row| fill(i * group + j, y, row));
            packed.run(path, &x, output, images, false);
            after(i * group, output)
        })
        .collect()
}

/// The products of one convolution's inputs and output gradients.
fn outer(g: &Geometry, input: Padded, gradient: Padded, group: usize) -> Outer {
    let [(top, _), (left, _)] = input.pad;
    let half = g.kernel / 2;
    let origin = (top - half) * input.row() + (left - half) * g.channels;
    Outer::new(input, origin, gradient, g.kernel, g.stride, group)
}

/// A convolution on the way back: one of those that share their images.
pub(crate) struct Branch<'a> {
    pub geometry: Geometry,
    pub weight: &'a [f32],
    /// Gives the rows of the output gradient: `(image, row, to)`.
    pub gradient: &'a (dyn Fn(usize, usize, &mut [f32]) + Sync),
}

/// The way back through convolutions of the same images: the gradient of each weight and, if `dx` is
/// given, that of the images. `fill` gives the rows of the images; `after(first image, gradients of
/// the group)` sees each group of `dx` in the cache, and its results come in order.
pub(crate) fn backward<T: Send>(
    path: Path,
    branches: &[Branch],
    fill: impl Fn(usize, usize, &mut [f32]) + Sync,
    dx: Option<&mut [f32]>,
    after: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<Vec<f32>>, Vec<T>) {
    // The first convolution has the largest kernel: its padding serves the others.
    let Some(g) = branches.first().map(|b| b.geometry) else { return (Vec::new(), Vec::new()) };
    let group = g.group();
    let padded = g.padded();
    let wanted = dx.is_some();
    let ways: Vec<Way> =
        branches.iter().map(|branch| Way::new(path, branch, padded, group, wanted)).collect();

    // A part is as many groups as one task takes; where the weights are many, all groups keep their
    // padded buffers, and the tasks share the weights.
    let large = g.weights() > LARGE;
    let part = if large { group } else { g.part() };
    let room = |shape: Padded| if large { g.batch * shape.len() + SPARE } else { 0 };
    let mut all_x = Aligned::unset(room(padded));
    let mut all_dy: Vec<Aligned> = ways.iter().map(|w| Aligned::unset(room(w.shape))).collect();
    for buffer in all_dy.iter_mut().chain([&mut all_x]) {
        let filled = buffer.len().saturating_sub(SPARE);
        buffer[filled..].fill(0.0);
    }
    let mut tasks: Vec<Task> = (0..g.batch)
        .step_by(part)
        .map(|first| Task {
            images: first..g.batch.min(first + part),
            x: None,
            dy: Vec::new(),
            dx: None,
        })
        .collect();
    if large {
        let chunks = all_x.chunks_mut(group * padded.len());
        tasks.iter_mut().zip(chunks).for_each(|(task, x)| task.x = Some(x));
        for (way, dy) in ways.iter().zip(&mut all_dy) {
            let chunks = dy.chunks_mut(group * way.shape.len());
            tasks.iter_mut().zip(chunks).for_each(|(task, dy)| task.dy.push(dy));
        }
    }
    if let Some(dx) = dx {
        let chunks = dx.chunks_mut(part * g.image());
        tasks.iter_mut().zip(chunks).for_each(|(task, dx)| task.dx = Some(dx));
    }

    let work = |mut task: Task| {
        let mut sums: Vec<Vec<f32>> = ways.iter().map(|w| vec![0.0; w.sums(large)]).collect();
        let mut found = Vec::new();
        for start in task.images.clone().step_by(group) {
            let images = group.min(task.images.end - start);
            let mut spare = scratch(if large { 0 } else { group * padded.len() + SPARE });
            let x: &mut [f32] = task.x.as_deref_mut().unwrap_or(&mut spare);
            let filled = &mut x[..images * padded.len()];
            padded.fill_group(filled, |j, y, row| fill(start + j, y, row));
            let mut into = task.dx.as_deref_mut().map(|dx| {
                let at = (start - task.images.start) * g.image();
                &mut dx[at..at + images * g.image()]
            });
            for (b, (way, branch)) in ways.iter().zip(branches).enumerate() {
                let mut spare = scratch(if large { 0 } else { group * way.shape.len() + SPARE });
                let dy: &mut [f32] = match task.dy.get_mut(b) {
                    Some(dy) => dy,
                    None => &mut spare,
                };
                let filled = &mut dy[..images * way.shape.len()];
                way.shape.fill_group(filled, |j, y, row| (branch.gradient)(start + j, y, row));
                if !large {
                    let chunks = sums[b].chunks_exact_mut(way.outer.chunk()).enumerate();
                    chunks.for_each(|(c, sums)| way.outer.run(path, x, dy, images, c, sums));
                }
                if let Some(into) = &mut into {
                    for gather in &way.inputs {
                        gather.run(path, dy, into, images, b > 0);
                    }
                }
            }
            found.extend(into.map(|into| after(start, into)));
        }
        (sums, found)
    };
    let (mut parts, found): (Vec<_>, Vec<_>) = tasks.into_par_iter().map(work).unzip();

    let weight = |(b, way): (usize, &Way)| {
        if !large {
            let of_branch = |sums: &mut Vec<Vec<f32>>| std::mem::take(&mut sums[b]);
            let mut parts: Vec<Vec<f32>> = parts.iter_mut().map(of_branch).collect();
            return way.outer.reduce(&mut parts);
        }
        let mut sums = vec![0.0; way.outer.chunks() * way.outer.chunk()];
        sums.par_chunks_exact_mut(way.outer.chunk()).enumerate().for_each(|(c, sums)| {
            for start in (0..g.batch).step_by(group) {
                let images = group.min(g.batch - start);
                let (x, dy) =
                    (&all_x[start * padded.len()..], &all_dy[b][start * way.shape.len()..]);
                way.outer.run(path, x, dy, images, c, sums);
            }
        });
        way.outer.reduce(&mut [sums])
    };
    let weights = ways.iter().enumerate().map(weight).collect();
    (weights, found.into_iter().flatten().collect())
}

/// How one convolution goes back.
struct Way {
    /// The padded output gradient.
    shape: Padded,
    outer: Outer,
    /// The gathers of the input gradient, if that is wanted.
    inputs: Vec<Packed>,
}

impl Way {
    fn new(path: Path, branch: &Branch, padded: Padded, group: usize, wanted: bool) -> Self {
        let g = &branch.geometry;
        let shape = g.padded_gradient();
        let outer = outer(g, padded, shape, group);
        let inputs =
            if wanted { Packed::backward(path, g, shape, branch.weight) } else { Vec::new() };
        Self { shape, outer, inputs }
    }

    /// Floats of sums that a part of the batch needs of its own.
    fn sums(&self, large: bool) -> usize {
        if large { 0 } else { self.outer.chunks() * self.outer.chunk() }
    }
}

/// A part of the batch on the way back, with its pieces of the shared buffers.
struct Task<'a> {
    images: Range<usize>,
    x: Option<&'a mut [f32]>,
    dy: Vec<&'a mut [f32]>,
    dx: Option<&'a mut [f32]>,
}
