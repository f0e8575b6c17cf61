//! Mean and variance per channel, and the coefficients of batch norm and its backward pass.

use crate::path::{Path, kernel, mul_add};

/// Mean and sum of squared deviations per channel of some rows, in double precision.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// The moments of `rows`, each of `len` floats.
    pub fn of(path: Path, rows: &[f32], len: usize, channels: usize) -> Self {
        // Sums deviations from the first pixel, to avoid cancellation where the mean is large.
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

    /// Mean and biased variance of all of `parts`, merged in order, `[2, channels]`.
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

/// Rows summed in single precision before their sum is added in double precision.
const BLOCK: usize = 64;

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

/// Repeats `values` (per channel) up to length `len`.
pub(crate) fn repeat(values: &[f32], len: usize) -> Vec<f32> {
    values.iter().copied().cycle().take(len).collect()
}

/// Adds the sums along a row to those per channel.
pub(crate) fn fold(row: &[f32], sums: &mut [f64]) {
    for pixel in row.chunks_exact(sums.len()) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += f64::from(v));
    }
}

/// Batch norm of a row as an affine map: `y · scale + shift`.
#[derive(Debug, Clone)]
pub(crate) struct Affine {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Affine {
    /// From the learnt scale and shift and `[mean, variance]` per channel, for rows of `len`.
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

/// The backward pass of batch norm: `dy = g · of_gradient + y · of_y + constant`, and the gradients of
/// the learnt scale and shift.
pub(crate) struct Backward {
    pub of_gradient: Vec<f32>,
    pub of_y: Vec<f32>,
    pub constant: Vec<f32>,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

/// Σ g and then Σ g · (y − mean), per channel over `count` pixels.
#[derive(Clone, Copy)]
pub(crate) struct GradientSums<'a> {
    pub values: &'a [f64],
    pub count: usize,
}

impl Backward {
    /// From the learnt scale, `[mean, variance]` and the sums per channel, for rows of `len`. With fixed
    /// statistics (not `of_batch`) no gradient flows through them.
    pub fn new(
        scale: &[f32],
        stats: &[f32],
        epsilon: f64,
        sums: GradientSums,
        of_batch: bool,
        len: usize,
    ) -> Self {
        let GradientSums { values: sums, count } = sums;
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
