//! Batch norm with the residual addition and ReLU, forward and backward, over rows of channels.

use rayon::prelude::*;

use crate::path::{Path, kernel, mul_add};

/// Chunks the rows are split into, whatever the threads.
const CHUNKS: usize = 32;
/// Rows that are summed in single precision before the sum goes to double.
const BLOCK: usize = 64;

fn chunk_len(len: usize, channels: usize) -> usize {
    (len / channels).div_ceil(CHUNKS).max(1) * channels
}

/// Adds the chunks' sums in their order.
fn total(partial: Vec<Vec<f64>>, len: usize) -> Vec<f64> {
    partial.iter().fold(vec![0.0; len], |mut sum, part| {
        sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
        sum
    })
}

/// Mean and biased variance by channel of `x` (`[rows, channels]`), to `out` (`[2, channels]`).
pub(crate) fn statistics(path: Path, x: &[f32], out: &mut [f32]) {
    let channels = out.len() / 2;
    let rows = (x.len() / channels) as f64;
    // Deviations from the first row, against cancellation where the mean is large.
    let origin = &x[..channels];
    let partial: Vec<Vec<f64>> = x
        .par_chunks(chunk_len(x.len(), channels))
        .map(|chunk| {
            let mut sums = vec![0.0f64; 2 * channels];
            sum_deviations(path, chunk, origin, &mut sums);
            sums
        })
        .collect();
    let sums = total(partial, 2 * channels);
    let (mean, variance) = out.split_at_mut(channels);
    for c in 0..channels {
        let shift = sums[c] / rows;
        mean[c] = (f64::from(origin[c]) + shift) as f32;
        variance[c] = (sums[channels + c] / rows - shift * shift).max(0.0) as f32;
    }
}

kernel!(
    /// Sums of deviations and of their squares, `[2, channels]`.
    sum_deviations(chunk: &[f32], origin: &[f32], sums: &mut [f64]) = sum_deviations_body
);

#[inline(always)]
fn sum_deviations_body<const FMA: bool>(chunk: &[f32], origin: &[f32], sums: &mut [f64]) {
    let channels = origin.len();
    let mut block_sums = vec![0.0f32; 2 * channels];
    for block in chunk.chunks(BLOCK * channels) {
        block_sums.fill(0.0);
        let (first, second) = block_sums.split_at_mut(channels);
        for row in block.chunks_exact(channels) {
            let sums = first.iter_mut().zip(second.iter_mut());
            for (((first, second), &x), &o) in sums.zip(row).zip(origin) {
                let d = x - o;
                *first += d;
                *second = mul_add::<FMA>(d, d, *second);
            }
        }
        sums.iter_mut().zip(&block_sums).for_each(|(sum, &part)| *sum += f64::from(part));
    }
}

/// What is added and cut after the normalisation.
#[derive(Clone, Copy)]
pub(crate) struct After<'a> {
    /// `[rows, channels]`.
    pub residual: Option<&'a [f32]>,
    pub relu: bool,
}

/// Scale and shift by channel that normalise, so that `y = x · scale + shift`.
pub(crate) fn scale_shift(weight: &[f32], bias: &[f32], stats: &[f32], epsilon: f64) -> Vec<f32> {
    let channels = weight.len();
    let inverse = inverse_std(&stats[channels..], epsilon);
    let scale: Vec<f32> = weight.iter().zip(&inverse).map(|(w, i)| w * i).collect();
    let shift = (0..channels).map(|c| bias[c] - stats[c] * scale[c]);
    scale.iter().copied().chain(shift).collect()
}

fn inverse_std(variance: &[f32], epsilon: f64) -> Vec<f32> {
    variance.iter().map(|&v| (1.0 / (f64::from(v) + epsilon).sqrt()) as f32).collect()
}

/// `y = relu(x · scale + shift + residual)`; `affine` holds scales then shifts.
pub(crate) fn forward(path: Path, x: &[f32], affine: &[f32], after: After, y: &mut [f32]) {
    let len = chunk_len(x.len(), affine.len() / 2);
    y.par_chunks_mut(len).enumerate().for_each(|(i, y)| {
        let part = i * len..i * len + y.len();
        let after = After { residual: after.residual.map(|r| &r[part.clone()]), ..after };
        affine_rows(path, &x[part], affine, after, y);
    });
}

kernel!(
    /// One chunk of rows.
    affine_rows(x: &[f32], affine: &[f32], after: After, y: &mut [f32]) = affine_rows_body
);

#[inline(always)]
fn affine_rows_body<const FMA: bool>(x: &[f32], affine: &[f32], after: After, y: &mut [f32]) {
    let channels = affine.len() / 2;
    let (scale, shift) = affine.split_at(channels);
    let floor = if after.relu { 0.0 } else { f32::NEG_INFINITY };
    for (i, (y, x)) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).enumerate() {
        let affine = scale.iter().zip(shift);
        match after.residual {
            None => {
                for ((y, &x), (&a, &b)) in y.iter_mut().zip(x).zip(affine) {
                    *y = mul_add::<FMA>(x, a, b).max(floor);
                }
            }
            Some(residual) => {
                let residual = &residual[i * channels..(i + 1) * channels];
                for (((y, &x), &r), (&a, &b)) in y.iter_mut().zip(x).zip(residual).zip(affine) {
                    *y = (mul_add::<FMA>(x, a, b) + r).max(floor);
                }
            }
        }
    }
}

/// What the backward pass starts from.
pub(crate) struct Backward<'a> {
    /// Gradient of the output.
    pub gradient: &'a [f32],
    /// The output, if ReLU cut it.
    pub output: Option<&'a [f32]>,
    /// The input.
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub stats: &'a [f32],
    pub epsilon: f64,
    /// Whether gradients flow through the statistics.
    pub of_batch: bool,
}

/// The gradients.
pub(crate) struct Gradients {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Gradient of the input to `dx`, of the residual (the output gradient where ReLU let it through)
/// to `dresidual` if wanted.
pub(crate) fn backward(
    path: Path,
    b: &Backward,
    dx: &mut [f32],
    dresidual: Option<&mut [f32]>,
) -> Gradients {
    let channels = b.weight.len();
    let rows = (b.x.len() / channels) as f64;
    let len = chunk_len(b.x.len(), channels);
    let mean = &b.stats[..channels];
    let partial: Vec<Vec<f64>> = b
        .gradient
        .par_chunks(len)
        .enumerate()
        .map(|(i, gradient)| {
            let part = i * len..i * len + gradient.len();
            let mut sums = vec![0.0f64; 2 * channels];
            let output = b.output.map(|y| &y[part.clone()]);
            sum_gradients(path, gradient, output, &b.x[part], mean, &mut sums);
            sums
        })
        .collect();
    let sums = total(partial, 2 * channels);
    let inverse = inverse_std(&b.stats[channels..], b.epsilon);
    let (sum, sum_deviation) = sums.split_at(channels);
    let weight: Vec<f32> =
        sum_deviation.iter().zip(&inverse).map(|(&s, &i)| (s * f64::from(i)) as f32).collect();
    let bias: Vec<f32> = sum.iter().map(|&s| s as f32).collect();

    // dx = scale · (g − mean(g) − x̂ · mean(g · x̂)) as g · a + x · b + c.
    let mut coefficients = vec![0.0f32; 3 * channels];
    for c in 0..channels {
        let (i, scale) = (f64::from(inverse[c]), f64::from(b.weight[c]) * f64::from(inverse[c]));
        coefficients[c] = scale as f32;
        if b.of_batch {
            let slope = -scale * i * i * sum_deviation[c] / rows;
            coefficients[channels + c] = slope as f32;
            coefficients[2 * channels + c] =
                (-scale * sum[c] / rows - slope * f64::from(mean[c])) as f32;
        }
    }
    let spread = |i: usize, dx: &mut [f32], dresidual: Option<&mut [f32]>| {
        let part = i * len..i * len + dx.len();
        let output = b.output.map(|y| &y[part.clone()]);
        spread_gradients(
            path,
            &b.gradient[part.clone()],
            output,
            &b.x[part],
            &coefficients,
            dx,
            dresidual,
        );
    };
    match dresidual {
        None => dx.par_chunks_mut(len).enumerate().for_each(|(i, dx)| spread(i, dx, None)),
        Some(dresidual) => dx
            .par_chunks_mut(len)
            .zip(dresidual.par_chunks_mut(len))
            .enumerate()
            .for_each(|(i, (dx, dresidual))| spread(i, dx, Some(dresidual))),
    }
    Gradients { weight, bias }
}

kernel!(
    /// Sums of the gradient and of its product with the deviation from the mean.
    sum_gradients(
        gradient: &[f32],
        output: Option<&[f32]>,
        x: &[f32],
        mean: &[f32],
        sums: &mut [f64],
    ) = sum_gradients_body
);

#[inline(always)]
fn sum_gradients_body<const FMA: bool>(
    gradient: &[f32],
    output: Option<&[f32]>,
    x: &[f32],
    mean: &[f32],
    sums: &mut [f64],
) {
    let channels = mean.len();
    let mut block_sums = vec![0.0f32; 2 * channels];
    for start in (0..x.len()).step_by(BLOCK * channels) {
        let end = x.len().min(start + BLOCK * channels);
        block_sums.fill(0.0);
        let (first, second) = block_sums.split_at_mut(channels);
        for at in (start..end).step_by(channels) {
            let (g, x) = (&gradient[at..at + channels], &x[at..at + channels]);
            let y = output.map(|y| &y[at..at + channels]);
            for c in 0..channels {
                let g = if y.is_none_or(|y| y[c] > 0.0) { g[c] } else { 0.0 };
                first[c] += g;
                second[c] = mul_add::<FMA>(g, x[c] - mean[c], second[c]);
            }
        }
        sums.iter_mut().zip(&block_sums).for_each(|(sum, &part)| *sum += f64::from(part));
    }
}

kernel!(
    /// One chunk of rows of the input's and the residual's gradient.
    spread_gradients(
        gradient: &[f32],
        output: Option<&[f32]>,
        x: &[f32],
        coefficients: &[f32],
        dx: &mut [f32],
        dresidual: Option<&mut [f32]>,
    ) = spread_gradients_body
);

#[inline(always)]
fn spread_gradients_body<const FMA: bool>(
    gradient: &[f32],
    output: Option<&[f32]>,
    x: &[f32],
    coefficients: &[f32],
    dx: &mut [f32],
    mut dresidual: Option<&mut [f32]>,
) {
    let channels = coefficients.len() / 3;
    let (of_gradient, rest) = coefficients.split_at(channels);
    let (of_x, constant) = rest.split_at(channels);
    for at in (0..x.len()).step_by(channels) {
        let row = at..at + channels;
        let (g, x, dx) = (&gradient[row.clone()], &x[row.clone()], &mut dx[row.clone()]);
        let y = output.map(|y| &y[row.clone()]);
        for c in 0..channels {
            let g = if y.is_none_or(|y| y[c] > 0.0) { g[c] } else { 0.0 };
            let constant = mul_add::<FMA>(x[c], of_x[c], constant[c]);
            dx[c] = mul_add::<FMA>(g, of_gradient[c], constant);
        }
        if let Some(dresidual) = dresidual.as_deref_mut() {
            let dresidual = &mut dresidual[row];
            for c in 0..channels {
                dresidual[c] = if y.is_none_or(|y| y[c] > 0.0) { g[c] } else { 0.0 };
            }
        }
    }
}
