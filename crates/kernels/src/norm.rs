//! Batch norm, ReLU and the residual addition, row by row: what the passes of a layer do to an image's
//! row while it is in the cache.
//!
//! A row holds `width · channels` floats; coefficients by channel are repeated to that length, so that
//! every loop is one flat loop over floats.

use crate::path::{kernel, mul_add};

/// Mean and squared deviations by channel of some rows, in double precision.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Of `rows`, each of `len` floats.
    pub fn of(path: crate::path::Path, rows: &[f32], len: usize, channels: usize) -> Self {
        // Deviations from the first pixel, against cancellation where the mean is large.
        let origin = repeat(&rows[..channels], len);
        let (mut first, mut second) = (vec![0.0f32; len], vec![0.0f32; len]);
        let (mut sum, mut squares) = (vec![0.0f64; channels], vec![0.0f64; channels]);
        for block in rows.chunks(BLOCK * len) {
            first.fill(0.0);
            second.fill(0.0);
            for row in block.chunks_exact(len) {
                add_deviations(path, row, &origin, &mut first, &mut second);
            }
            fold(&first, &mut sum);
            fold(&second, &mut squares);
        }
        let count = (rows.len() / channels) as f64;
        for c in 0..channels {
            let shift = sum[c] / count;
            squares[c] = (squares[c] - sum[c] * shift).max(0.0);
            sum[c] = f64::from(origin[c]) + shift;
        }
        Self { count, mean: sum, squares }
    }

    /// Mean and biased variance of all of `parts`, added in their order, `[2, channels]`.
    pub fn total(parts: &[Self]) -> Vec<f32> {
        let Some((first, rest)) = parts.split_first() else { return Vec::new() };
        let mut all = first.clone();
        for part in rest {
            let count = all.count + part.count;
            for c in 0..all.mean.len() {
                let gap = part.mean[c] - all.mean[c];
                all.squares[c] += part.squares[c] + gap * gap * all.count * part.count / count;
                all.mean[c] += gap * part.count / count;
            }
            all.count = count;
        }
        let variance = all.squares.iter().map(|s| (s / all.count) as f32);
        all.mean.iter().map(|&m| m as f32).chain(variance).collect()
    }
}

/// Rows that are summed in single precision before the sum goes to double.
const BLOCK: usize = 64;

/// `values` (by channel) over and over, to `len`.
pub(crate) fn repeat(values: &[f32], len: usize) -> Vec<f32> {
    values.iter().copied().cycle().take(len).collect()
}

/// Adds the sums of a row to those by channel.
pub(crate) fn fold(row: &[f32], sums: &mut [f64]) {
    for pixel in row.chunks_exact(sums.len()) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += f64::from(v));
    }
}

/// What batch norm does to a row: `y · scale + shift`.
#[derive(Debug, Clone)]
pub(crate) struct Affine {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Affine {
    /// From the learnt scale and shift and `[mean, variance]` by channel, for rows of `len`.
    pub fn new(scale: &[f32], shift: &[f32], stats: &[f32], epsilon: f64, len: usize) -> Self {
        let channels = scale.len();
        let inverse = inverse_std(&stats[channels..], epsilon);
        let scale: Vec<f32> = scale.iter().zip(&inverse).map(|(w, i)| w * i).collect();
        let shift: Vec<f32> = (0..channels).map(|c| shift[c] - stats[c] * scale[c]).collect();
        Self { scale: repeat(&scale, len), shift: repeat(&shift, len) }
    }
}

fn inverse_std(variance: &[f32], epsilon: f64) -> Vec<f32> {
    variance.iter().map(|&v| (1.0 / (f64::from(v) + epsilon).sqrt()) as f32).collect()
}

/// The way back through batch norm: `dy = g · of_gradient + y · of_y + constant`, and the gradients of
/// the learnt scale and shift.
pub(crate) struct Backward {
    pub of_gradient: Vec<f32>,
    pub of_y: Vec<f32>,
    pub constant: Vec<f32>,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Backward {
    /// `sums` holds, by channel, Σ g and then Σ g · (y − mean) over `count` pixels. With fixed
    /// statistics (not `of_batch`) no gradient flows through them.
    pub fn new(
        scale: &[f32],
        stats: &[f32],
        epsilon: f64,
        sums: &[f64],
        count: usize,
        of_batch: bool,
        len: usize,
    ) -> Self {
        let channels = scale.len();
        let inverse = inverse_std(&stats[channels..], epsilon);
        let (sum, deviation) = sums.split_at(channels);
        let [mut of_gradient, mut of_y, mut constant] = [(); 3].map(|()| vec![0.0f32; channels]);
        for c in 0..channels {
            let inverse = f64::from(inverse[c]);
            let slope = f64::from(scale[c]) * inverse;
            of_gradient[c] = slope as f32;
            if of_batch {
                let along = -slope * inverse * inverse * deviation[c] / count as f64;
                of_y[c] = along as f32;
                constant[c] = (-slope * sum[c] / count as f64 - along * f64::from(stats[c])) as f32;
            }
        }
        Self {
            of_gradient: repeat(&of_gradient, len),
            of_y: repeat(&of_y, len),
            constant: repeat(&constant, len),
            scale: deviation
                .iter()
                .zip(&inverse)
                .map(|(d, i)| (d * f64::from(*i)) as f32)
                .collect(),
            shift: sum.iter().map(|&s| s as f32).collect(),
        }
    }
}

kernel!(
    /// Adds a row's deviations from `origin`, and their squares.
    add_deviations(row: &[f32], origin: &[f32], first: &mut [f32], second: &mut [f32]) = deviations
);

#[inline(always)]
fn deviations<const FMA: bool>(row: &[f32], origin: &[f32], first: &mut [f32], second: &mut [f32]) {
    let sums = first.iter_mut().zip(second.iter_mut());
    for (((first, second), &y), &o) in sums.zip(row).zip(origin) {
        let d = y - o;
        *first += d;
        *second = mul_add::<FMA>(d, d, *second);
    }
}

/// NaN stays NaN, so that a training that has diverged shows it.
#[inline(always)]
fn relu(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

kernel!(
    /// `out = relu(y · scale + shift)`.
    affine_relu(y: &[f32], affine: &Affine, out: &mut [f32]) = affine_relu_body
);

#[inline(always)]
fn affine_relu_body<const FMA: bool>(y: &[f32], affine: &Affine, out: &mut [f32]) {
    let coefficients = affine.scale.iter().zip(&affine.shift);
    for ((out, &y), (&a, &b)) in out.iter_mut().zip(y).zip(coefficients) {
        *out = relu(mul_add::<FMA>(y, a, b));
    }
}

kernel!(
    /// `out = relu(y · scale + shift + r)`.
    affine_add_relu(y: &[f32], affine: &Affine, r: &[f32], out: &mut [f32]) = affine_add_relu_body
);

#[inline(always)]
fn affine_add_relu_body<const FMA: bool>(y: &[f32], affine: &Affine, r: &[f32], out: &mut [f32]) {
    let coefficients = affine.scale.iter().zip(&affine.shift);
    for (((out, &y), &r), (&a, &b)) in out.iter_mut().zip(y).zip(r).zip(coefficients) {
        *out = relu(mul_add::<FMA>(y, a, b) + r);
    }
}

kernel!(
    /// `out = relu(y · scale + shift + d · scale' + shift')`: a block's end behind a downsampling.
    affine_pair_relu(
        y: &[f32],
        affine: &Affine,
        d: &[f32],
        down: &Affine,
        out: &mut [f32],
    ) = affine_pair_relu_body
);

#[inline(always)]
fn affine_pair_relu_body<const FMA: bool>(
    y: &[f32],
    affine: &Affine,
    d: &[f32],
    down: &Affine,
    out: &mut [f32],
) {
    let first = affine.scale.iter().zip(&affine.shift);
    let second = down.scale.iter().zip(&down.shift);
    let rows = out.iter_mut().zip(y).zip(d);
    for (((out, &y), &d), ((&a, &b), (&c, &e))) in rows.zip(first.zip(second)) {
        *out = relu(mul_add::<FMA>(y, a, b) + mul_add::<FMA>(d, c, e));
    }
}

kernel!(
    /// Adds to the sums of a gradient `g` where `out > 0`, and of its products with `y − mean`.
    add_masked(
        g: &[f32],
        out: &[f32],
        y: &[f32],
        mean: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) = add_masked_body
);

#[inline(always)]
fn add_masked_body<const FMA: bool>(
    g: &[f32],
    out: &[f32],
    y: &[f32],
    mean: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let sums = first.iter_mut().zip(second.iter_mut());
    let inputs = g.iter().zip(out).zip(y).zip(mean);
    for ((first, second), (((&g, &out), &y), &mean)) in sums.zip(inputs) {
        let g = if out > 0.0 { g } else { 0.0 };
        *first += g;
        *second = mul_add::<FMA>(g, y - mean, *second);
    }
}

kernel!(
    /// Adds to the sums of a gradient `g` that is already cut, and of its products with `y − mean`.
    add_products(
        g: &[f32],
        y: &[f32],
        mean: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) = add_products_body
);

#[inline(always)]
fn add_products_body<const FMA: bool>(
    g: &[f32],
    y: &[f32],
    mean: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let sums = first.iter_mut().zip(second.iter_mut());
    for ((first, second), ((&g, &y), &mean)) in sums.zip(g.iter().zip(y).zip(mean)) {
        *first += g;
        *second = mul_add::<FMA>(g, y - mean, *second);
    }
}

kernel!(
    /// Cuts `g` where the ReLU behind `y · scale + shift` did, and adds to its sums.
    cut_relu(
        g: &mut [f32],
        y: &[f32],
        affine: &Affine,
        mean: &[f32],
        first: &mut [f32],
        second: &mut [f32],
    ) = cut_relu_body
);

#[inline(always)]
fn cut_relu_body<const FMA: bool>(
    g: &mut [f32],
    y: &[f32],
    affine: &Affine,
    mean: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let sums = first.iter_mut().zip(second.iter_mut());
    let coefficients = affine.scale.iter().zip(&affine.shift).zip(mean);
    let inputs = g.iter_mut().zip(y).zip(coefficients);
    for ((first, second), ((g, &y), ((&a, &b), &mean))) in sums.zip(inputs) {
        let kept = if mul_add::<FMA>(y, a, b) > 0.0 { *g } else { 0.0 };
        *g = kept;
        *first += kept;
        *second = mul_add::<FMA>(kept, y - mean, *second);
    }
}

kernel!(
    /// `dy` of a gradient `g` that is already cut.
    spread(g: &[f32], y: &[f32], back: &Backward, dy: &mut [f32]) = spread_body
);

#[inline(always)]
fn spread_body<const FMA: bool>(g: &[f32], y: &[f32], back: &Backward, dy: &mut [f32]) {
    let coefficients = back.of_gradient.iter().zip(&back.of_y).zip(&back.constant);
    for (((dy, &g), &y), ((&a, &b), &c)) in dy.iter_mut().zip(g).zip(y).zip(coefficients) {
        *dy = mul_add::<FMA>(g, a, mul_add::<FMA>(y, b, c));
    }
}

kernel!(
    /// `dy` of a gradient `g` that counts where `out > 0`.
    spread_masked(
        g: &[f32],
        out: &[f32],
        y: &[f32],
        back: &Backward,
        dy: &mut [f32],
    ) = spread_masked_body
);

#[inline(always)]
fn spread_masked_body<const FMA: bool>(
    g: &[f32],
    out: &[f32],
    y: &[f32],
    back: &Backward,
    dy: &mut [f32],
) {
    let coefficients = back.of_gradient.iter().zip(&back.of_y).zip(&back.constant);
    let inputs = g.iter().zip(out).zip(y).zip(coefficients);
    for (dy, (((&g, &out), &y), ((&a, &b), &c))) in dy.iter_mut().zip(inputs) {
        let g = if out > 0.0 { g } else { 0.0 };
        *dy = mul_add::<FMA>(g, a, mul_add::<FMA>(y, b, c));
    }
}

kernel!(
    /// Adds to `dx` the gradient `g` where `out > 0`: the way back through the identity shortcut.
    add_where_positive(g: &[f32], out: &[f32], dx: &mut [f32]) = add_where_positive_body
);

#[inline(always)]
fn add_where_positive_body<const FMA: bool>(g: &[f32], out: &[f32], dx: &mut [f32]) {
    for ((dx, &g), &out) in dx.iter_mut().zip(g).zip(out) {
        *dx += if out > 0.0 { g } else { 0.0 };
    }
}
