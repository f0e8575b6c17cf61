//! The 3×3 max-pool of stride 2 after a ReLU, row by row.
//!
//! Outputs of a ReLU are never negative, so zeros serve as padding. If a whole window is zero, there is
//! no winner: no gradient passes the ReLU there either.

use crate::path::kernel;

/// Pixels of the pooled image along an axis of `len` pixels.
pub(crate) fn pooled(len: usize) -> usize {
    len.div_ceil(2)
}

/// The winner of a window of zeros.
const NONE: u8 = 9;

kernel!(
    /// Pools three rows of `channels`-vectors, with zeros outside the image: writes the maxima to `out`
    /// and their places in the window, in row order, to `winners`.
    pool_rows(
        rows: [&[f32]; 3],
        zeros: &[f32],
        channels: usize,
        out: &mut [f32],
        winners: &mut [u8],
    ) = pool_rows_body
);

#[inline(always)]
fn pool_rows_body<const FMA: bool>(
    rows: [&[f32]; 3],
    zeros: &[f32],
    channels: usize,
    out: &mut [f32],
    winners: &mut [u8],
) {
    let width = rows[1].len() / channels;
    let outputs = out.chunks_exact_mut(channels).zip(winners.chunks_exact_mut(channels));
    for (ox, (out, winners)) in outputs.enumerate() {
        let taps: [&[f32]; 9] = std::array::from_fn(|tap| {
            // Column 2 · ox − 1 + tap % 3.
            let x = (2 * ox + tap % 3).wrapping_sub(1);
            if x < width { &rows[tap / 3][x * channels..][..channels] } else { &zeros[..channels] }
        });
        for c in 0..channels {
            let (mut best, mut winner) = (0.0f32, u32::from(NONE));
            for (tap, values) in taps.iter().enumerate() {
                let value = values[c];
                // NaN wins, so that it stays visible.
                let wins = value > best || value.is_nan();
                winner = if wins { tap as u32 } else { winner };
                best = if wins { value } else { best };
            }
            out[c] = best;
            winners[c] = winner as u8;
        }
    }
}

kernel!(
    /// Adds the gradient from one pooled row to the gradient `dx` of a row, which is row `window_row` of
    /// the pooled row's windows.
    unpool_row(
        g: &[f32],
        winners: &[u8],
        window_row: usize,
        channels: usize,
        dx: &mut [f32],
    ) = unpool_row_body
);

#[inline(always)]
fn unpool_row_body<const FMA: bool>(
    g: &[f32],
    winners: &[u8],
    window_row: usize,
    channels: usize,
    dx: &mut [f32],
) {
    let width = dx.len() / channels;
    let pixels = g.chunks_exact(channels).zip(winners.chunks_exact(channels));
    for (ox, (g, winners)) in pixels.enumerate() {
        for column in 0..3 {
            let x = (2 * ox + column).wrapping_sub(1);
            if x < width {
                let tap = (3 * window_row + column) as u8;
                let dx = &mut dx[x * channels..][..channels];
                for ((dx, &g), &winner) in dx.iter_mut().zip(g).zip(winners) {
                    *dx += if winner == tap { g } else { 0.0 };
                }
            }
        }
    }
}

/// The pooled rows whose windows hold row `y` of `height`, each with the place of `y` in the window.
pub(crate) fn windows(y: usize, height: usize) -> impl Iterator<Item = (usize, usize)> {
    // Window `oy` holds the rows 2 · oy − 1 to 2 · oy + 1.
    (y / 2..=y.div_ceil(2))
        .filter(move |&oy| oy < pooled(height))
        .map(move |oy| (oy, y + 1 - 2 * oy))
}
