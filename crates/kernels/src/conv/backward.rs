//! The way back through convolutions of the same images: weight gradients by parts of the batch, image gradients by groups.

use std::ops::Range;

use rayon::prelude::*;

use super::{Geometry, Packed};
use crate::gather::Padded;
use crate::outer::{Outer, SPARE};
use crate::path::Path;
use crate::scratch::{Aligned, scratch};

/// Above this many weights, threads share the weight gradient instead of the batch.
const LARGE: usize = 1 << 17;

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
