//! A convolution and its batch norm over a batch: the building block of a ResNet's stem and blocks. The
//! normalisation is applied where the next convolution reads its input, so that activations pass
//! through memory as rarely as the batch statistics allow.

use std::ops::Range;

use rayon::prelude::*;

use crate::conv;
use crate::geometry::Geometry;
use crate::norm::{self, Affine, Backward, Centred, GradientSums, Moments};
use crate::path::Path;
use crate::wanted::Wanted;

/// A convolution and its batch norm.
#[derive(Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub geometry: Geometry,
    /// `[out, in, kernel, kernel]`.
    pub weight: &'a [f32],
    /// Learnt scale and shift per channel.
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub epsilon: f64,
}

/// The gradients of a unit's parameters; empty if not wanted.
pub(crate) struct UnitGradients {
    pub weight: Vec<f32>,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl UnitGradients {
    /// Takes the last of `weights`, with the gradients of scale and shift from `back`.
    pub fn of(weights: &mut Vec<Vec<f32>>, back: Backward, wanted: Wanted) -> Self {
        if !wanted.parameters {
            return Self { weight: Vec::new(), scale: Vec::new(), shift: Vec::new() };
        }
        let weight = weights.pop().unwrap_or_default();
        Self { weight, scale: back.scale, shift: back.shift }
    }
}

impl Unit<'_> {
    /// Floats in an output row.
    pub fn row(&self) -> usize {
        self.geometry.out_width() * self.geometry.out
    }

    pub fn affine(&self, stats: &[f32]) -> Affine {
        Affine::new(self.scale, self.shift, stats, self.epsilon, self.row())
    }

    /// The outputs of the convolution and their statistics, or `fixed` if given.
    pub fn convolve(
        &self,
        path: Path,
        fixed: Option<&[f32]>,
        rows: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> (Vec<f32>, Vec<f32>) {
        let g = &self.geometry;
        let (y, moments) = conv::forward(path, g, self.weight, rows, |_, group| {
            fixed.is_none().then(|| Moments::of(path, group, self.row(), g.out))
        });
        let moments: Vec<Moments> = moments.into_iter().flatten().collect();
        let stats = fixed.map_or_else(|| Moments::total(&moments), <[f32]>::to_vec);
        (y, stats)
    }

    pub fn backward(&self, stats: &[f32], sums: &[f64], of_batch: bool) -> Backward {
        let g = &self.geometry;
        let count = g.batch * g.out_height() * g.out_width();
        let sums = GradientSums { values: sums, count };
        Backward::new(self.scale, stats, self.epsilon, sums, of_batch, self.row())
    }

    /// The range of row `y` of image `image` in the outputs, in floats.
    pub fn output(&self, image: usize, y: usize) -> Range<usize> {
        let at = image * self.geometry.result() + y * self.row();
        at..at + self.row()
    }

    /// The range of row `y` of image `image` in the inputs, in floats.
    pub fn input(&self, image: usize, y: usize) -> Range<usize> {
        let row = self.geometry.width * self.geometry.channels;
        let at = image * self.geometry.image() + y * row;
        at..at + row
    }

    /// Writes the gradient of row `row` of the convolution's outputs.
    pub fn through_relu(
        &self,
        path: Path,
        way: &ThroughRelu,
        image: usize,
        row: usize,
        to: &mut [f32],
    ) {
        let ThroughRelu { g, out, y, back } = *way;
        let at = self.output(image, row);
        norm::spread_masked(path, &g[at.clone()], &out[at.clone()], &y[at], back, to);
    }

    /// Σ g and Σ g · (y − mean) per channel, where the final output `out` is positive.
    pub fn masked_sums(
        &self,
        path: Path,
        g: &[f32],
        out: &[f32],
        y: &[f32],
        stats: &[f32],
    ) -> Vec<f64> {
        let (row, channels) = (self.row(), self.geometry.out);
        let mean = norm::repeat(&stats[..channels], row);
        let chunk = self.geometry.group() * self.geometry.result();
        let parts: Vec<Vec<f64>> =
            (g.par_chunks(chunk), out.par_chunks(chunk), y.par_chunks(chunk))
                .into_par_iter()
                .map(|(g, out, y)| {
                    let mut sums = Sums::new(row);
                    for ((g, out), y) in
                        g.chunks_exact(row).zip(out.chunks_exact(row)).zip(y.chunks_exact(row))
                    {
                        let y = Centred { y, mean: &mean };
                        norm::add_masked(path, g, out, y, &mut sums.first, &mut sums.second);
                    }
                    sums.by_channel(channels)
                })
                .collect();
        total(&parts)
    }
}

/// The backward pass from the final output `out`, whose gradient `g` counts where `out` is positive,
/// to the convolution's outputs `y`.
#[derive(Clone, Copy)]
pub(crate) struct ThroughRelu<'a> {
    pub g: &'a [f32],
    pub out: &'a [f32],
    pub y: &'a [f32],
    pub back: &'a Backward,
}

/// Two sums along rows, in single precision over one group.
pub(crate) struct Sums {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Sums {
    pub fn new(row: usize) -> Self {
        Self { first: vec![0.0; row], second: vec![0.0; row] }
    }

    pub fn by_channel(&self, channels: usize) -> Vec<f64> {
        let mut sums = vec![0.0; 2 * channels];
        let (first, second) = sums.split_at_mut(channels);
        norm::fold(&self.first, first);
        norm::fold(&self.second, second);
        sums
    }
}

/// Adds parts in order.
pub(crate) fn total(parts: &[Vec<f64>]) -> Vec<f64> {
    let mut all = parts.first().cloned().unwrap_or_default();
    for part in parts.iter().skip(1) {
        all.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    all
}
