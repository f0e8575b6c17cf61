//! The backward pass of convolutions of the same images: weight gradients by batch part, image gradients by group.

use rayon::prelude::*;

use super::Packed;
use super::weights::Sum;
use crate::fill::{Filling, fill, zeros};
use crate::gather::Padded;
use crate::geometry::Geometry;
use crate::outer::{Group, SPARE};
use crate::pairs::{Format, pair_channels, pair_image};
use crate::path::Path;
use crate::scratch::{Scratch, scratch};
use crate::wanted::Wanted;
use crate::winograd;

/// Above this many weights, threads split the weight gradient instead of the batch.
const LARGE: usize = if cfg!(miri) { 1 << 12 } else { 1 << 17 };

/// One of the convolutions in a backward pass that share their images.
pub(crate) struct Branch<'a> {
    pub geometry: Geometry,
    pub weight: &'a [f32],
    /// Writes a row of the output gradient: `(image, row, to)`.
    pub gradient: &'a (dyn Fn(usize, usize, &mut [f32]) + Sync),
}

/// The results of [`backward`].
pub(crate) struct Back<T> {
    /// The gradient of each branch's weight; empty if not wanted.
    pub weights: Vec<Vec<f32>>,
    /// The gradient of the images; empty if not wanted.
    pub images: Vec<f32>,
    /// The results of `after` for each group of the image gradient, in order.
    pub found: Vec<T>,
}

/// The backward pass of convolutions of the same images: the `wanted` gradients of each weight and of the images.
/// `rows` writes the rows of the images; `after(first image, gradients of the group)` receives each group of the
/// images' gradient while it is in the cache.
pub(crate) fn backward<T: Send>(
    path: Path,
    branches: &[Branch],
    rows: impl Fn(usize, usize, &mut [f32]) + Sync,
    wanted: Wanted,
    after: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> Back<T> {
    // The first convolution has the largest kernel: its padding serves the others.
    let Some(g) = branches.first().map(|b| b.geometry) else {
        return Back { weights: Vec::new(), images: Vec::new(), found: Vec::new() };
    };
    let group = g.group();
    let padded = g.padded();
    // In bf16, pixels are paired before direct products, and tiles after Winograd's transforms. The branches share
    // their images, and so one of the two.
    let transformed = branches.iter().all(|branch| winograd::takes(&branch.geometry));
    let paired = g.format == Format::Pairs && !transformed;
    let ways: Vec<Way> = branches
        .iter()
        .map(|branch| Way::new(path, branch, padded, group, wanted.inputs, paired))
        .collect();

    // A part holds the groups of one task. With many weights, all groups keep their padded buffers, and
    // the tasks split the weights.
    let large = g.weights() > LARGE && wanted.parameters;
    let part = if large { group } else { g.part() };
    let buffer = |shape: Padded| {
        let len = group * shape.len() + SPARE;
        if large { Scratch::kept(len) } else { scratch(len) }
    };

    let work = |i: usize, mut dx: Option<&mut Filling<'_>>| {
        let mut sums: Vec<Vec<f32>> =
            ways.iter().map(|w| vec![0.0; w.sums(large || !wanted.parameters)]).collect();
        let (mut found, mut kept) = (Vec::new(), None);
        let last = g.batch.min((i + 1) * part);
        for start in (i * part..last).step_by(group) {
            let images = group.min(last - start);
            let x = wanted.parameters.then(|| {
                let mut x = buffer(padded);
                let filled = &mut x[..images * padded.len()];
                padded.fill_group(filled, |j, y, row| rows(start + j, y, row));
                if paired {
                    let images = filled.chunks_exact_mut(padded.len());
                    images.for_each(|image| pair_image(path, image, padded.row(), g.stride));
                }
                x
            });
            let mut gradients = Vec::new();
            for (b, (way, branch)) in ways.iter().zip(branches).enumerate() {
                let mut dy = buffer(way.shape);
                let filled = &mut dy[..images * way.shape.len()];
                way.shape.fill_group(filled, |j, y, row| (branch.gradient)(start + j, y, row));
                if let Some(dx) = &mut dx {
                    way.images(path, &dy, dx, images, b > 0);
                }
                let Some(x) = &x else { continue };
                if paired {
                    let images = dy[..images * way.shape.len()].chunks_exact_mut(way.shape.len());
                    images.for_each(|image| pair_image(path, image, way.shape.row(), 1));
                }
                if large {
                    gradients.push(dy);
                } else {
                    let group = Group { padded: x, gradient: &dy, images };
                    way.sum.add(path, group, &mut sums[b]);
                }
            }
            found.extend(dx.as_mut().map(|dx| after(start, dx.last(images * g.image()))));
            kept = x.filter(|_| large).map(|x| (x, gradients));
        }
        (sums, found, kept)
    };
    let tasks = 0..g.batch.div_ceil(part);
    let (images, done) = if wanted.inputs {
        fill(g.batch * g.image(), part * g.image(), tasks, |i, dx| work(i, Some(dx)))
    } else {
        (Vec::new(), tasks.into_par_iter().map(|i| work(i, None)).collect())
    };
    let (mut parts, mut found, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (sums, of_groups, buffers) in done {
        parts.push(sums);
        found.extend(of_groups);
        kept.extend(buffers);
    }

    let weights = match wanted.parameters {
        true => weights(path, &g, &ways, &mut parts, &kept),
        false => Vec::new(),
    };
    Back { weights, images, found }
}

/// The padded images of a group, and the padded output gradients of each branch.
type Buffers = (Scratch, Vec<Scratch>);

/// The gradient of each weight, from the sums of the parts or, with many weights, from the buffers of the groups.
fn weights<'a>(
    path: Path,
    g: &Geometry,
    ways: &[Way],
    parts: &mut [Vec<Vec<f32>>],
    kept: &'a [Buffers],
) -> Vec<Vec<f32>> {
    let weight = |(b, way): (usize, &Way)| {
        if g.weights() <= LARGE {
            let of_branch = |sums: &mut Vec<Vec<f32>>| std::mem::take(&mut sums[b]);
            let mut parts: Vec<Vec<f32>> = parts.iter_mut().map(of_branch).collect();
            return way.sum.reduce(path, &mut parts);
        }
        let group = |(i, (x, gradients)): (usize, &'a Buffers)| Group {
            padded: x,
            gradient: &gradients[b],
            images: g.group().min(g.batch - i * g.group()),
        };
        let groups: Vec<Group> = kept.iter().enumerate().map(group).collect();
        way.sum.reduce(path, &mut [way.sum.of_all(path, &groups)])
    };
    ways.iter().enumerate().map(weight).collect()
}

/// The backward pass of one convolution.
struct Way {
    /// The padded output gradient.
    shape: Padded,
    sum: Sum,
    /// Floats in an image.
    image: usize,
    /// The gathers of the input gradient; empty if not wanted.
    inputs: Vec<Packed>,
}

impl Way {
    fn new(
        path: Path,
        branch: &Branch,
        padded: Padded,
        group: usize,
        wanted: bool,
        paired: bool,
    ) -> Self {
        let g = &branch.geometry;
        let shape = g.padded_gradient();
        let sum = Sum::new(g, padded, shape, group, paired);
        let inputs =
            if wanted { Packed::backward(path, g, shape, branch.weight) } else { Vec::new() };
        Self { shape, sum, image: g.image(), inputs }
    }

    /// Writes the gradient of the next `images` images of `dx`; with `add`, adds to that of the last ones.
    fn images(&self, path: Path, dy: &[f32], dx: &mut Filling<'_>, images: usize, add: bool) {
        let len = images * self.image;
        let pairs = self.pairs(path, dy, images);
        let dy = pairs.as_deref().unwrap_or(dy);
        if let ([whole], false) = (&self.inputs[..], add) {
            dx.next(len, |slots| whole.begin(path, dy, slots, images));
            return;
        }
        let dx = if add { dx.last(len) } else { dx.next(len, zeros) };
        for residue in &self.inputs {
            residue.run(path, dy, dx, images, add);
        }
    }

    /// The gradients of a group with their channels in pairs, if the gathers read pairs.
    fn pairs(&self, path: Path, dy: &[f32], images: usize) -> Option<Scratch> {
        let pairs = self.inputs.first().is_some_and(|packed| packed.reads() == Format::Pairs);
        pairs.then(|| {
            let channels = self.shape.inner[2];
            let mut paired = scratch(images * self.shape.places(Format::Pairs).len());
            pair_channels(path, &dy[..images * self.shape.len()], channels, &mut paired);
            paired
        })
    }

    /// Number of sums that a part of the batch needs for itself; with `none`, it needs none.
    fn sums(&self, none: bool) -> usize {
        if none { 0 } else { self.sum.len() }
    }
}
