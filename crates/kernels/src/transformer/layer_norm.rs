//! Layer norm over the last axis: (x − mean) / √(variance + ε) · scale + shift, row by row.

use rayon::prelude::*;

use crate::path::{Path, kernel, mul_add};
use crate::scratch::unset;

/// Rows that one task takes: the sums over rows are added in the order of the tasks.
const ROWS: usize = 64;

/// What layer norm is set to.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub epsilon: f32,
}

/// Gradients of the inputs, the scale and the shift.
pub(super) struct Gradients {
    pub x: Vec<f32>,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

/// The rows of `x`, normalised.
pub(super) fn layer_norm(path: Path, x: &[f32], norm: Norm<'_>) -> Vec<f32> {
    let chunk = ROWS * norm.scale.len();
    let mut y = unset(x.len());
    y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| forward(path, x, norm, y));
    y
}

/// The way back where the outputs have `gradient`.
pub(super) fn layer_norm_backward(
    path: Path,
    x: &[f32],
    norm: Norm<'_>,
    gradient: &[f32],
) -> Gradients {
    let dim = norm.scale.len();
    let chunk = ROWS * dim;
    let mut dx = unset(x.len());
    let parts: Vec<Vec<f32>> =
        (dx.par_chunks_mut(chunk), x.par_chunks(chunk), gradient.par_chunks(chunk))
            .into_par_iter()
            .map(|(dx, x, gradient)| {
                let mut sums = vec![0.0; 2 * dim];
                backward(path, x, norm, gradient, dx, &mut sums);
                sums
            })
            .collect();
    let mut scale = vec![0.0; 2 * dim];
    for part in parts {
        scale.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    let shift = scale.split_off(dim);
    Gradients { x: dx, scale, shift }
}

/// Sums in a few lanes, so that the loop becomes vectors.
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
fn forward_body<const FMA: bool>(x: &[f32], norm: Norm<'_>, y: &mut [f32]) {
    let dim = norm.scale.len();
    for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
        let (mean, inverse) = moments::<FMA>(x, norm.epsilon);
        for (((y, &x), &scale), &shift) in y.iter_mut().zip(x).zip(norm.scale).zip(norm.shift) {
            *y = mul_add::<FMA>((x - mean) * inverse, scale, shift);
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(
    x: &[f32],
    norm: Norm<'_>,
    gradient: &[f32],
    dx: &mut [f32],
    sums: &mut [f32],
) {
    let dim = norm.scale.len();
    let (of_scale, of_shift) = sums.split_at_mut(dim);
    let rows = x.chunks_exact(dim).zip(gradient.chunks_exact(dim)).zip(dx.chunks_exact_mut(dim));
    for ((x, g), dx) in rows {
        let (mean, inverse) = moments::<FMA>(x, norm.epsilon);
        let (x, scale) = (&x[..dim], &norm.scale[..dim]);
        let count = dim as f32;
        let first = sum::<FMA>(g, |i, g| g * scale[i]) / count;
        let second = sum::<FMA>(g, |i, g| g * scale[i] * (x[i] - mean)) * inverse * inverse / count;
        for i in 0..dim {
            let away = x[i] - mean;
            dx[i] = (g[i] * scale[i] - first - away * second) * inverse;
            of_scale[i] += g[i] * away * inverse;
            of_shift[i] += g[i];
        }
    }
}

kernel! {
    forward(x: &[f32], norm: Norm<'_>, y: &mut [f32]) = forward_body
}
kernel! {
    backward(
        x: &[f32],
        norm: Norm<'_>,
        gradient: &[f32],
        dx: &mut [f32],
        sums: &mut [f32],
    ) = backward_body
}
