//! The weight gradient of one convolution: how the products of a group's inputs and output gradients are summed.

use rayon::prelude::*;

use crate::fill::{fill, zeros};
use crate::gather::Padded;
use crate::geometry::Geometry;
use crate::outer::{Group, Outer};
use crate::path::Path;
use crate::scratch::scratch;
use crate::winograd::{self, WeightGradient};

/// Transformed parts of groups that threads share at a time when they split the sums.
const SHARED: usize = 8;

/// An algorithm that sums products in chunks.
pub(super) enum Sum {
    Direct(Outer),
    Winograd(WeightGradient),
}

impl Sum {
    /// For groups of padded images and output gradients of these layouts, which are `paired` by rows or not.
    pub fn new(g: &Geometry, input: Padded, gradient: Padded, group: usize, paired: bool) -> Self {
        if winograd::takes(g) && !paired {
            return Self::Winograd(WeightGradient::new(input, gradient, group, g.format));
        }
        let [(top, _), (left, _)] = input.pad;
        let half = g.kernel / 2;
        let origin = (top - half) * input.row() + (left - half) * g.channels;
        Self::Direct(Outer::new(input, origin, gradient, [g.kernel, g.stride], group, g.format))
    }

    /// Floats in a chunk of sums.
    fn chunk(&self) -> usize {
        match self {
            Self::Direct(outer) => outer.chunk(),
            Self::Winograd(winograd) => winograd.chunk(),
        }
    }

    /// Floats in all sums.
    pub fn len(&self) -> usize {
        self.chunk()
            * match self {
                Self::Direct(outer) => outer.chunks(),
                Self::Winograd(winograd) => winograd.chunks(),
            }
    }

    /// Adds the products of a group.
    pub fn add(&self, path: Path, group: Group, sums: &mut [f32]) {
        let mut each = |add: &dyn Fn(usize, &mut [f32])| {
            sums.chunks_exact_mut(self.chunk()).enumerate().for_each(|(c, sums)| add(c, sums));
        };
        match self {
            Self::Direct(outer) => each(&|c, sums| outer.run(path, group, c, sums)),
            Self::Winograd(winograd) => {
                let mut factors = scratch(winograd.factors(group.images));
                for rows in winograd.parts(group.images) {
                    winograd.transform(path, group, rows.clone(), &mut factors);
                    each(&|c, sums| winograd.add(path, &factors, rows.len(), c, sums));
                }
            }
        }
    }

    /// The sums of the products of all `groups`, split among the threads by chunk.
    pub fn of_all(&self, path: Path, groups: &[Group]) -> Vec<f32> {
        let (len, chunk) = (self.len(), self.chunk());
        match self {
            Self::Direct(outer) => {
                let all = fill(len, chunk, 0..outer.chunks(), |c, sums| {
                    let sums = sums.rest(zeros);
                    groups.iter().for_each(|&group| outer.run(path, group, c, sums));
                });
                all.0
            }
            Self::Winograd(winograd) => {
                let parts: Vec<_> = groups
                    .iter()
                    .flat_map(|group| winograd.parts(group.images).map(move |rows| (group, rows)))
                    .collect();
                let rooms = groups.iter().map(|group| winograd.factors(group.images));
                let room = rooms.max().unwrap_or(0);
                let mut factors = scratch(SHARED * room);
                let mut sums = Vec::new();
                for parts in parts.chunks(SHARED) {
                    let shared = parts.par_iter().zip(factors.par_chunks_exact_mut(room));
                    shared.for_each(|((group, rows), factors)| {
                        winograd.transform(path, **group, rows.clone(), factors);
                    });
                    let add = |c: usize, sums: &mut [f32]| {
                        for ((_, rows), factors) in parts.iter().zip(factors.chunks_exact(room)) {
                            winograd.add(path, factors, rows.len(), c, sums);
                        }
                    };
                    if sums.is_empty() {
                        let chunks = 0..winograd.chunks();
                        (sums, _) = fill(len, chunk, chunks, |c, sums| add(c, sums.rest(zeros)));
                    } else {
                        let chunks = sums.par_chunks_exact_mut(chunk).enumerate();
                        chunks.for_each(|(c, sums)| add(c, sums));
                    }
                }
                sums
            }
        }
    }

    /// Adds the sums of `parts` in order: the gradient of the weight `[out, in, kernel, kernel]`.
    pub fn reduce(&self, path: Path, parts: &mut [Vec<f32>]) -> Vec<f32> {
        match self {
            Self::Direct(outer) => outer.reduce(parts),
            Self::Winograd(winograd) => winograd.reduce(path, parts),
        }
    }
}
