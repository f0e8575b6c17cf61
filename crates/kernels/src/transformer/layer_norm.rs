//! Layer norm over the last axis: (x − mean) / √(variance + ε) · scale + shift, row by row.

use rayon::prelude::*;

use crate::fill::{Slot, fill, write};
use crate::path::{Path, kernel, mul_add};

/// Rows per task: the sums over rows are added in the order of the tasks.
const ROWS: usize = if cfg!(miri) { 2 } else { 64 };

/// The parameters of layer norm.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub epsilon: f32,
}

/// Gradients of the inputs, the scale and the shift.
pub(crate) struct Gradients {
    pub x: Vec<f32>,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

/// The rows of `x`, normalised.
pub(crate) fn layer_norm(path: Path, x: &[f32], norm: Norm<'_>) -> Vec<f32> {
    let dim = norm.scale.len();
    let chunk = ROWS * dim;
    fill(x.len(), chunk, x.par_chunks(chunk), |x, y| {
        for x in x.chunks_exact(dim) {
            y.next(dim, |y| forward(path, x, norm, y));
        }
    })
    .0
}

/// The backward pass, given the `gradient` of the outputs.
pub(crate) fn layer_norm_backward(
    path: Path,
    x: &[f32],
    norm: Norm<'_>,
    gradient: &[f32],
) -> Gradients {
    let dim = norm.scale.len();
    let chunk = ROWS * dim;
    let chunks = (x.par_chunks(chunk), gradient.par_chunks(chunk));
    let (dx, parts) = fill(x.len(), chunk, chunks, |(x, gradient), dx| {
        let mut sums = vec![0.0; 2 * dim];
        for (x, gradient) in x.chunks_exact(dim).zip(gradient.chunks_exact(dim)) {
            dx.next(dim, |dx| backward(path, x, norm, gradient, dx, &mut sums));
        }
        sums
    });
    let mut scale = vec![0.0; 2 * dim];
    for part in parts {
        scale.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    let shift = scale.split_off(dim);
    Gradients { x: dx, scale, shift }
}

/// Lanes of partial sums, so that the loop vectorises.
const LANES: usize = 16;

#[inline(always)]
fn sum<const FMA: bool>(a: &[f32], b: impl Fn(usize, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = a.split_at(a.len() / LANES * LANES);
    for (i, chunk) in whole.chunks_exact(LANES).enumerate() {
        for l in 0..LANES {
            lanes[l] += b(i * LANES + l, chunk[l]);
        }
    }
    let mut total = 0.0;
    for (i, &v) in rest.iter().enumerate() {
        total += b(whole.len() + i, v);
    }
    lanes.iter().fold(total, |sum, v| sum + v)
}

/// Mean and 1 / √(variance + ε) of a row.
#[inline(always)]
fn moments<const FMA: bool>(x: &[f32], epsilon: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum::<FMA>(x, |_, v| v) / count;
    let variance = sum::<FMA>(x, |_, v| (v - mean) * (v - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

#[inline(always)]
fn forward_body<'a, const FMA: bool>(
    x: &[f32],
    norm: Norm<'_>,
    y: &'a mut [Slot],
) -> &'a mut [f32] {
    let (mean, inverse) = moments::<FMA>(x, norm.epsilon);
    let inputs = x.iter().zip(norm.scale).zip(norm.shift);
    write(
        y,
        inputs.map(|((&x, &scale), &shift)| mul_add::<FMA>((x - mean) * inverse, scale, shift)),
    )
}

#[inline(always)]
fn backward_body<'a, const FMA: bool>(
    x: &[f32],
    norm: Norm<'_>,
    g: &[f32],
    dx: &'a mut [Slot],
    sums: &mut [f32],
) -> &'a mut [f32] {
    let dim = norm.scale.len();
    let (of_scale, of_shift) = sums.split_at_mut(dim);
    let (mean, inverse) = moments::<FMA>(x, norm.epsilon);
    let (x, g, scale) = (&x[..dim], &g[..dim], &norm.scale[..dim]);
    let count = dim as f32;
    let first = sum::<FMA>(g, |i, g| g * scale[i]) / count;
    let second = sum::<FMA>(g, |i, g| g * scale[i] * (x[i] - mean)) * inverse * inverse / count;
    let rows = x.iter().zip(g).zip(scale).zip(of_scale.iter_mut().zip(of_shift));
    let values = rows.map(|(((&x, &g), &scale), (of_scale, of_shift))| {
        let away = x - mean;
        *of_scale += g * away * inverse;
        *of_shift += g;
        (g * scale - first - away * second) * inverse
    });
    write(dx, values)
}

kernel! {
    forward<'a>(x: &[f32], norm: Norm<'_>, y: &'a mut [Slot]) -> &'a mut [f32] = forward_body
}
kernel! {
    backward<'a>(
        x: &[f32],
        norm: Norm<'_>,
        g: &[f32],
        dx: &'a mut [Slot],
        sums: &mut [f32],
    ) -> &'a mut [f32] = backward_body
}
