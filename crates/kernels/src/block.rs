//! The basic block of a ResNet: forward and backward over a batch.

use rayon::prelude::*;

use crate::conv::{self, Back, Branch, Packed};
use crate::fill::{Filling, fill};
use crate::norm::{self, Affine, Backward, Centred};
use crate::path::Path;
use crate::scratch::scratch;
use crate::unit::{Sums, ThroughRelu, Unit, UnitGradients, total};
use crate::wanted::Wanted;

/// The units of a basic block: two 3×3 convolutions, and that of the shortcut if the shape changes.
#[derive(Clone, Copy)]
pub(crate) struct BlockUnits<'a> {
    pub first: Unit<'a>,
    pub second: Unit<'a>,
    pub down: Option<Unit<'a>>,
}

/// The output of a block's forward pass and the values that the backward pass reads. Without downsampling,
/// `yd` and the last of `stats` are empty.
pub(crate) struct Block {
    pub out: Vec<f32>,
    pub y1: Vec<f32>,
    pub y2: Vec<f32>,
    pub yd: Vec<f32>,
    pub stats: [Vec<f32>; 3],
}

/// The forward pass of a block, keeping everything that the backward pass needs. `fixed` holds running
/// statistics; if `None`, the statistics of the batch are used.
pub(crate) fn block(
    path: Path,
    x: &[f32],
    units: &BlockUnits,
    fixed: Option<[&[f32]; 3]>,
) -> Block {
    let fixed = |i: usize| fixed.map(|stats| stats[i]);
    let BlockUnits { first, second, down } = units;
    let copy = |image, y, row: &mut [f32]| row.copy_from_slice(&x[first.input(image, y)]);
    let (y1, s1) = first.convolve(path, fixed(0), copy);
    let a1 = first.affine(&s1);
    let (y2, s2) = second.convolve(path, fixed(1), |image, y, row| {
        norm::affine_relu(path, &y1[second.input(image, y)], &a1, row);
    });
    let a2 = second.affine(&s2);
    let (yd, sd) = match down {
        None => (Vec::new(), Vec::new()),
        Some(down) => down.convolve(path, fixed(2), copy),
    };
    let ad = down.map(|down| down.affine(&sd));
    let shortcut = ad.as_ref().map_or(x, |_| &yd[..]);
    let chunk = second.geometry.result();
    let images = y2.par_chunks(chunk).zip(shortcut.par_chunks(chunk));
    let (out, _) = fill(y2.len(), chunk, images, |(y2, shortcut), out| {
        end(path, second.row(), (y2, &a2), (shortcut, ad.as_ref()), out);
    });
    Block { out, y1, y2, yd, stats: [s1, s2, sd] }
}

/// The end of a block, row by row: batch norm, shortcut (which may have its own batch norm), ReLU.
fn end(
    path: Path,
    row: usize,
    (y2, a2): (&[f32], &Affine),
    (shortcut, ad): (&[f32], Option<&Affine>),
    out: &mut Filling<'_>,
) {
    for (y2, shortcut) in y2.chunks_exact(row).zip(shortcut.chunks_exact(row)) {
        out.next(row, |out| match ad {
            None => norm::affine_add_relu(path, y2, a2, shortcut, out),
            Some(ad) => norm::affine_pair_relu(path, y2, a2, shortcut, ad, out),
        });
    }
}

/// The forward pass of a block with running statistics, computed in the cache group by group.
pub(crate) fn block_fixed(
    path: Path,
    x: &[f32],
    units: &BlockUnits,
    stats: [&[f32]; 3],
) -> Vec<f32> {
    let BlockUnits { first, second, down } = units;
    let (g1, g2) = (&first.geometry, &second.geometry);
    let (p1, p2) = (g1.padded(), g2.padded());
    let conv1 = Packed::forward(path, g1, p1, first.weight);
    let conv2 = Packed::forward(path, g2, p2, second.weight);
    let shortcut =
        down.map(|d| (Packed::forward(path, &d.geometry, p1, d.weight), d.affine(stats[2])));
    let (a1, a2) = (first.affine(stats[0]), second.affine(stats[1]));
    let (group, result) = (g2.group(), g2.result());
    let groups = 0..g2.batch.div_ceil(group);
    let (out, _) = fill(g2.batch * result, group * result, groups, |i, out| {
        let images = out.left() / result;
        let copy = |j: usize, y: usize, row: &mut [f32]| {
            row.copy_from_slice(&x[first.input(i * group + j, y)]);
        };
        let padded = conv1.group(path, p1, images, copy);
        let mut y1 = scratch(images * result);
        conv1.run(path, &padded, &mut y1, images, false);
        let z1 = conv2.group(path, p2, images, |j, y, row| {
            norm::affine_relu(path, &y1[second.input(j, y)], &a1, row);
        });
        // The first convolution's outputs are no longer needed: the second convolution overwrites them.
        conv2.run(path, &z1, &mut y1, images, false);
        match &shortcut {
            None => {
                let x = &x[i * group * result..][..images * result];
                end(path, second.row(), (&y1, &a2), (x, None), out);
            }
            Some((conv, affine)) => {
                let mut yd = scratch(images * result);
                if conv.reads() == conv1.reads() {
                    conv.run(path, &padded, &mut yd, images, false);
                } else {
                    conv.run(path, &conv.group(path, p1, images, copy), &mut yd, images, false);
                }
                end(path, second.row(), (&y1, &a2), (&yd, Some(affine)), out);
            }
        }
    });
    out
}

/// What the forward pass saves for [`block_backward`].
#[derive(Clone, Copy)]
pub(crate) struct BlockSaved<'a> {
    pub out: &'a [f32],
    pub y1: &'a [f32],
    pub y2: &'a [f32],
    pub yd: &'a [f32],
    pub stats: [&'a [f32]; 3],
    pub of_batch: bool,
}

/// The results of [`block_backward`].
pub(crate) struct BlockGradients {
    pub first: UnitGradients,
    pub second: UnitGradients,
    pub down: Option<UnitGradients>,
    /// The gradient of the images; empty if not wanted.
    pub images: Vec<f32>,
}

/// The backward pass of [`block`]: the `wanted` gradients.
pub(crate) fn block_backward(
    path: Path,
    x: &[f32],
    units: &BlockUnits,
    saved: &BlockSaved,
    gradient: &[f32],
    wanted: Wanted,
) -> BlockGradients {
    let BlockUnits { first, second, down } = units;
    let BlockSaved { out, y1, y2, yd, stats, of_batch } = *saved;
    let masked = |unit: &Unit, y: &[f32], stats: &[f32]| match of_batch || wanted.parameters {
        true => unit.masked_sums(path, gradient, out, y, stats),
        // Then nothing depends on them.
        false => vec![0.0; 2 * unit.geometry.out],
    };
    let sums = masked(second, y2, stats[1]);
    let b2 = second.backward(stats[1], &sums, of_batch);
    let bd = down.map(|down| {
        let sums = masked(&down, yd, stats[2]);
        down.backward(stats[2], &sums, of_batch)
    });

    let mut back = through_second(path, units, saved, gradient, &b2, wanted);
    let b1 = first.backward(stats[0], &total(&back.found), of_batch);
    let (dz1, second) = (back.images, UnitGradients::of(&mut back.weights, b2, wanted));

    // Through the first convolution and the shortcut.
    let through_first = |image, row, to: &mut [f32]| {
        let at = first.output(image, row);
        norm::spread(path, &dz1[at.clone()], &y1[at], &b1, to);
    };
    let through_down = |image, row, to: &mut [f32]| {
        if let (Some(down), Some(back)) = (down, &bd) {
            let way = ThroughRelu { g: gradient, out, y: yd, back };
            down.through_relu(path, &way, image, row, to);
        }
    };
    let mut branches =
        vec![Branch { geometry: first.geometry, weight: first.weight, gradient: &through_first }];
    branches.extend(down.map(|down| Branch {
        geometry: down.geometry,
        weight: down.weight,
        gradient: &through_down,
    }));
    let identity = down.is_none();
    let image = first.geometry.image();
    let mut back = conv::backward(
        path,
        &branches,
        |image, y, row| row.copy_from_slice(&x[first.input(image, y)]),
        wanted,
        |start, dx| {
            if identity {
                let at = start * image..start * image + dx.len();
                norm::add_where_positive(path, &gradient[at.clone()], &out[at], dx);
            }
        },
    );
    // The last branch is the shortcut's.
    let down = bd.map(|norm| UnitGradients::of(&mut back.weights, norm, wanted));
    let first = UnitGradients::of(&mut back.weights, b1, wanted);
    BlockGradients { first, second, down, images: back.images }
}

/// The backward pass through the second convolution and the first ReLU, with the per-channel sums of each group of
/// the gradient.
fn through_second(
    path: Path,
    units: &BlockUnits,
    saved: &BlockSaved,
    gradient: &[f32],
    b2: &Backward,
    wanted: Wanted,
) -> Back<Vec<f64>> {
    let BlockUnits { first, second, .. } = units;
    let BlockSaved { out, y1, y2, stats, .. } = *saved;
    let a1 = first.affine(stats[0]);
    let branch = Branch {
        geometry: second.geometry,
        weight: second.weight,
        gradient: &|image, row, to| {
            let way = ThroughRelu { g: gradient, out, y: y2, back: b2 };
            second.through_relu(path, &way, image, row, to);
        },
    };
    let channels = first.geometry.out;
    let mean = norm::repeat(&stats[0][..channels], first.row());
    conv::backward(
        path,
        &[branch],
        |image, y, row| norm::affine_relu(path, &y1[second.input(image, y)], &a1, row),
        Wanted { inputs: true, ..wanted },
        |image, dz1| {
            let y1 = &y1[image * second.geometry.image()..];
            let mut sums = Sums::new(first.row());
            for (g, y) in dz1.chunks_exact_mut(first.row()).zip(y1.chunks_exact(first.row())) {
                let y = Centred { y, mean: &mean };
                norm::cut_relu(path, g, y, &a1, &mut sums.first, &mut sums.second);
            }
            sums.by_channel(channels)
        },
    )
}
