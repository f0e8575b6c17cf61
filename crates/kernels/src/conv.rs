//! One convolution over a batch: geometry, packed weights, and the passes over groups of images.

use rayon::prelude::*;

use crate::gather::{Axis, Gather, Padded};
use crate::outer::{Outer, SPARE};
use crate::path::Path;
use crate::scratch::scratch;

/// Output pixels that a group of images has at least, so that a slab of weights is read for many.
const GROUP_PIXELS: usize = 256;
/// Floats of partial weight gradients that a batch is split into, at most 16 parts and at least 2.
const PARTIAL: usize = 1 << 20;

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

    /// Images in a group.
    pub fn group(&self) -> usize {
        GROUP_PIXELS.div_ceil(self.out_height() * self.out_width()).min(self.batch)
    }

    /// Images in a part of the batch for the weight gradient, whole groups. It depends on the sizes
    /// alone: the parts are summed in their order, so the number of threads changes nothing.
    pub fn part(&self) -> usize {
        let parts = (PARTIAL / self.weights()).clamp(2, 16);
        self.batch.div_ceil(parts).next_multiple_of(self.group())
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

/// A gather with its packed weights.
pub(crate) struct Packed {
    gather: Gather,
    weights: Vec<f32>,
}

impl Packed {
    pub fn run(&self, path: Path, x: &[f32], y: &mut [f32], images: usize, add: bool) {
        self.gather.run(path, x, &self.weights, y, images, add);
    }

    /// The forward pass of groups padded as `padded` says.
    pub fn forward(g: &Geometry, padded: Padded, weight: &[f32]) -> Self {
        let [(top, _), (left, _)] = padded.pad;
        let rows = Axis::forward(g.height, g.out_height(), g.kernel, g.stride, top);
        let columns = Axis::forward(g.width, g.out_width(), g.kernel, g.stride, left);
        let out = [g.out_width(), g.out_height() * g.out_width(), g.out];
        let gather = Gather::new(padded, &rows, &columns, out, g.group());
        let weights = gather.pack(|ky, kx, from, to| {
            weight[((to * g.channels + from) * g.kernel + ky) * g.kernel + kx]
        });
        Self { gather, weights }
    }

    /// The input gradient: one gather for each residue of the position, so that no work is spent on
    /// zeros between the output gradients of a strided convolution.
    pub fn backward(g: &Geometry, padded: Padded, weight: &[f32]) -> Vec<Self> {
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
                let weights = gather.pack(|ky, kx, from, to| {
                    weight[((from * g.channels + to) * g.kernel + ky) * g.kernel + kx]
                });
                all.push(Self { gather, weights });
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
    let packed = Packed::forward(g, padded, weight);
    let group = g.group();
    output
        .par_chunks_mut(group * g.result())
        .enumerate()
        .map(|(i, output)| {
            let images = output.len() / g.result();
            let mut x = scratch(images * padded.len());
            for (j, image) in x.chunks_exact_mut(padded.len()).enumerate() {
                padded.fill(image, |y, row| fill(i * group + j, y, row));
            }
            packed.run(path, &x, output, images, false);
            after(i * group, output)
        })
        .collect()
}

/// The products of one convolution's inputs and output gradients.
pub(crate) fn outer(g: &Geometry, input: Padded, gradient: Padded) -> Outer {
    let [(top, _), (left, _)] = input.pad;
    let half = g.kernel / 2;
    let origin = (top - half) * input.row() + (left - half) * g.channels;
    Outer { input, origin, gradient, kernel: g.kernel, stride: g.stride }
}

/// Floats of a buffer of padded images that [`outer`] reads.
pub(crate) fn buffer(padded: Padded, images: usize) -> usize {
    images * padded.len() + SPARE
}

/// Adds the parts' sums (`[tap][in][out]`) in their order, as `[out][in][tap]`.
pub(crate) fn reduce(g: &Geometry, parts: &[Vec<f32>]) -> Vec<f32> {
    const LINE: usize = 16;
    let taps = g.kernel * g.kernel;
    let each = g.channels * taps;
    let mut weight = vec![0.0; g.weights()];
    weight.par_chunks_mut(LINE * each).enumerate().for_each(|(block, weight)| {
        let outs = weight.len() / each;
        for tap in 0..taps {
            for from in 0..g.channels {
                let at = (tap * g.channels + from) * g.out + block * LINE;
                let mut line = [0.0f32; LINE];
                for part in parts {
                    line.iter_mut().zip(&part[at..at + outs]).for_each(|(sum, v)| *sum += v);
                }
                for (to, value) in line.iter().enumerate().take(outs) {
                    weight[to * each + from * taps + tap] = *value;
                }
            }
        }
    });
    weight
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
    let padded = g.padded();
    let gradients: Vec<Padded> = branches.iter().map(|b| b.geometry.padded_gradient()).collect();
    let outers = branches.iter().zip(&gradients).map(|(b, p)| outer(&b.geometry, padded, *p));
    let outers: Vec<Outer> = outers.collect();
    let inputs = branches.iter().zip(&gradients);
    let inputs = inputs.map(|(b, p)| Packed::backward(&b.geometry, *p, b.weight));
    let inputs: Vec<Vec<Packed>> = if dx.is_some() { inputs.collect() } else { Vec::new() };

    let (part, group) = (g.part(), g.group());
    let starts: Vec<usize> = (0..g.batch).step_by(part).collect();
    let dx: Vec<Option<&mut [f32]>> = match dx {
        None => starts.iter().map(|_| None).collect(),
        Some(dx) => dx.chunks_mut(part * g.image()).map(Some).collect(),
    };
    let work = |(first, mut dx): (usize, Option<&mut [f32]>)| {
        let end = g.batch.min(first + part);
        let mut sums: Vec<Vec<f32>> =
            branches.iter().map(|b| vec![0.0; b.geometry.weights()]).collect();
        let mut found = Vec::new();
        let mut x = scratch(buffer(padded, group));
        for start in (first..end).step_by(group) {
            let images = group.min(end - start);
            for (j, image) in x.chunks_exact_mut(padded.len()).take(images).enumerate() {
                padded.fill(image, |y, row| fill(start + j, y, row));
            }
            let mut into = dx.as_deref_mut().map(|dx| {
                let at = (start - first) * g.image();
                &mut dx[at..at + images * g.image()]
            });
            for (b, branch) in branches.iter().enumerate() {
                let shape = gradients[b];
                let mut dy = scratch(buffer(shape, group));
                for (j, image) in dy.chunks_exact_mut(shape.len()).take(images).enumerate() {
                    shape.fill(image, |y, row| (branch.gradient)(start + j, y, row));
                }
                outers[b].run(path, &x, &dy, images, &mut sums[b]);
                if let Some(into) = &mut into {
                    for gather in &inputs[b] {
                        gather.run(path, &dy, into, images, b > 0);
                    }
                }
            }
            found.extend(into.map(|into| after(start, into)));
        }
        (sums, found)
    };
    let done: Vec<_> = starts.into_par_iter().zip(dx).map(work).collect();

    let mut parts: Vec<Vec<Vec<f32>>> = branches.iter().map(|_| Vec::new()).collect();
    let mut found = Vec::new();
    for (sums, more) in done {
        parts.iter_mut().zip(sums).for_each(|(parts, sums)| parts.push(sums));
        found.extend(more);
    }
    let weights = branches.iter().zip(&parts).map(|(b, parts)| reduce(&b.geometry, parts));
    (weights.collect(), found)
}
