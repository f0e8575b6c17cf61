//! The stem of a ResNet: a convolution, batch norm, ReLU and, for large images, a max-pool. The pooling
//! reads the rows while they are in the cache: the image before it is never stored.

use rayon::prelude::*;

use crate::conv::{self, Branch, Packed};
use crate::fill::{Filling, fill, zeros};
use crate::norm::{self, Affine, Centred};
use crate::path::Path;
use crate::pool::{pool_rows, pooled, unpool_row, windows};
use crate::scratch::scratch;
use crate::unit::{Sums, ThroughRelu, Unit, UnitGradients, total};
use crate::wanted::Wanted;

/// The results of the forward pass.
pub(crate) struct Stem {
    /// The outputs.
    pub out: Vec<f32>,
    /// The convolution's outputs, before batch norm.
    pub y: Vec<f32>,
    /// Where each pooled output came from; empty without pooling.
    pub winners: Vec<u8>,
    /// Mean and biased variance, `[2, out]`: those of the batch, or the given ones.
    pub stats: Vec<f32>,
}

/// Height and width of the stem's outputs.
pub(crate) fn out_size(unit: &Unit, pool: bool) -> [usize; 2] {
    let size = [unit.geometry.out_height(), unit.geometry.out_width()];
    if pool { size.map(pooled) } else { size }
}

/// Floats in an output image.
fn out_len(unit: &Unit, pool: bool) -> usize {
    out_size(unit, pool).iter().product::<usize>() * unit.geometry.out
}

/// The forward pass, keeping everything that the backward pass needs. `fixed` holds running statistics;
/// if `None`, the statistics of the batch are used.
pub(crate) fn stem(path: Path, x: &[f32], unit: &Unit, pool: bool, fixed: Option<&[f32]>) -> Stem {
    let copy = |image, y, row: &mut [f32]| row.copy_from_slice(&x[unit.input(image, y)]);
    let (y, stats) = unit.convolve(path, fixed, copy);
    let affine = unit.affine(&stats);
    let len = out_len(unit, pool);
    let all = unit.geometry.batch * len;
    let mut winners = vec![0; if pool { all } else { 0 }];
    let images = y.par_chunks(unit.geometry.result());
    let (out, _) = if pool {
        fill(all, len, images.zip(winners.par_chunks_mut(len)), |(y, winners), out| {
            pool_image(path, unit, y, &affine, out, winners);
        })
    } else {
        fill(all, len, images, |y, out| norm_image(path, unit, y, &affine, out))
    };
    Stem { out, y, winners, stats }
}

/// The forward pass with running statistics, computed in the cache group by group.
pub(crate) fn stem_fixed(
    path: Path,
    x: &[f32],
    unit: &Unit,
    pool: bool,
    stats: &[f32],
) -> Vec<f32> {
    let g = &unit.geometry;
    let padded = g.padded();
    let conv = Packed::forward(path, g, padded, unit.weight);
    let affine = unit.affine(stats);
    let (group, len) = (g.group(), out_len(unit, pool));
    let groups = 0..g.batch.div_ceil(group);
    let (out, _) = fill(g.batch * len, group * len, groups, |i, out| {
        let images = out.left() / len;
        let filled = conv.group(path, padded, images, |j, y, row| {
            row.copy_from_slice(&x[unit.input(i * group + j, y)]);
        });
        let mut y = scratch(images * g.result());
        conv.run(path, &filled, &mut y, images, false);
        let mut winners = vec![0; if pool { len } else { 0 }];
        for y in y.chunks_exact(g.result()) {
            if pool {
                pool_image(path, unit, y, &affine, out, &mut winners);
            } else {
                norm_image(path, unit, y, &affine, out);
            }
        }
    });
    out
}

/// Batch norm and ReLU of one image.
fn norm_image(path: Path, unit: &Unit, y: &[f32], affine: &Affine, out: &mut Filling<'_>) {
    for y in y.chunks_exact(unit.row()) {
        out.next(unit.row(), |out| norm::affine_relu_out(path, y, affine, out));
    }
}

/// Batch norm, ReLU and max-pool of one image.
fn pool_image(
    path: Path,
    unit: &Unit,
    y: &[f32],
    affine: &Affine,
    out: &mut Filling<'_>,
    winners: &mut [u8],
) {
    let (row, channels) = (unit.row(), unit.geometry.out);
    let height = unit.geometry.out_height();
    let nothing = vec![0.0; row];
    // Rows 2 · oy − 1 to 2 · oy + 1; the last is the first of the next window.
    let mut rows = [(); 3].map(|()| vec![0.0; row]);
    let pooled_row = pooled(unit.geometry.out_width()) * channels;
    for (oy, winners) in winners.chunks_exact_mut(pooled_row).enumerate() {
        let out = out.next(pooled_row, zeros);
        rows.swap(0, 2);
        for (r, into) in rows.iter_mut().enumerate().skip(1) {
            let at = 2 * oy + r - 1;
            if at < height {
                norm::affine_relu(path, &y[at * row..][..row], affine, into);
            } else {
                into.fill(0.0);
            }
        }
        pool_rows(path, rows.each_ref().map(|r| &r[..]), &nothing, channels, out, winners);
    }
}

/// What the forward pass saves for [`stem_backward`].
#[derive(Clone, Copy)]
pub(crate) struct StemSaved<'a> {
    pub out: &'a [f32],
    pub y: &'a [f32],
    /// Empty without pooling.
    pub winners: &'a [u8],
    pub stats: &'a [f32],
    pub of_batch: bool,
}

/// The backward pass of [`stem`]: the `wanted` gradients of the parameters and of `x`.
pub(crate) fn stem_backward(
    path: Path,
    x: &[f32],
    unit: &Unit,
    saved: &StemSaved,
    gradient: &[f32],
    wanted: Wanted,
) -> (UnitGradients, Vec<f32>) {
    let StemSaved { out, y, winners, stats, of_batch } = *saved;
    let pool = !winners.is_empty();
    let unpooled = |image: usize, row: usize, to: &mut [f32]| {
        unpool(path, unit, [image, row], gradient, winners, to);
    };
    let sums = if !of_batch && !wanted.parameters {
        // Then nothing depends on them.
        vec![0.0; 2 * unit.geometry.out]
    } else if pool {
        pooled_sums(path, unit, y, stats, &unpooled)
    } else {
        unit.masked_sums(path, gradient, out, y, stats)
    };
    let back = unit.backward(stats, &sums, of_batch);
    let through = |image, row, to: &mut [f32]| {
        if pool {
            let mut g = scratch(unit.row());
            unpooled(image, row, &mut g);
            norm::spread(path, &g, &y[unit.output(image, row)], &back, to);
        } else {
            let way = ThroughRelu { g: gradient, out, y, back: &back };
            unit.through_relu(path, &way, image, row, to);
        }
    };
    let branch = Branch { geometry: unit.geometry, weight: unit.weight, gradient: &through };
    let copy = |image, y, row: &mut [f32]| row.copy_from_slice(&x[unit.input(image, y)]);
    let mut found = conv::backward(path, &[branch], copy, wanted, |_, _| ());
    (UnitGradients::of(&mut found.weights, back, wanted), found.images)
}

/// Writes the gradient of a row of an image before pooling.
fn unpool(
    path: Path,
    unit: &Unit,
    [image, row]: [usize; 2],
    gradient: &[f32],
    winners: &[u8],
    to: &mut [f32],
) {
    let channels = unit.geometry.out;
    let [height, width] = out_size(unit, true);
    to.fill(0.0);
    for (oy, window_row) in windows(row, unit.geometry.out_height()) {
        let at = (image * height + oy) * width * channels..;
        let (g, winners) = (&gradient[at.clone()][..width * channels], &winners[at]);
        unpool_row(path, g, &winners[..width * channels], window_row, channels, to);
    }
}

/// Σ g and Σ g · (y − mean) per channel; `unpooled` writes the rows of `g`.
fn pooled_sums(
    path: Path,
    unit: &Unit,
    y: &[f32],
    stats: &[f32],
    unpooled: &(impl Fn(usize, usize, &mut [f32]) + Sync),
) -> Vec<f64> {
    let (row, channels) = (unit.row(), unit.geometry.out);
    let mean = norm::repeat(&stats[..channels], row);
    let images = y.par_chunks(unit.geometry.result()).enumerate();
    let parts: Vec<Vec<f64>> = images
        .map(|(image, y)| {
            let mut sums = Sums::new(row);
            let mut g = scratch(row);
            for (r, y) in y.chunks_exact(row).enumerate() {
                unpooled(image, r, &mut g);
                let y = Centred { y, mean: &mean };
                norm::add_products(path, &g, y, &mut sums.first, &mut sums.second);
            }
            sums.by_channel(channels)
        })
        .collect();
    total(&parts)
}
