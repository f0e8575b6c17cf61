//! The gather: each output pixel sums, over a list of taps, the input channels at a fixed offset from
//! its base times a block of weights. A tile of output pixels × output channels stays in registers
//! over all taps and input channels.

use rayon::prelude::*;

use crate::path::Path;
use crate::simd::{Four, Simd};

/// Output channels in a block of packed weights: two AVX-512 registers.
pub(crate) const LANES: usize = 32;

/// Position and offsets of a gather, along one axis.
pub(crate) struct Axis {
    /// Zeros before and after the input.
    pad: (usize, usize),
    /// Padded input positions of the outputs' bases.
    bases: Vec<usize>,
    /// Positions of the outputs.
    outs: Vec<usize>,
    /// Kernel index and offset from the base, for each tap.
    taps: Vec<(usize, usize)>,
}

impl Axis {
    /// Forward: output o reads input `o · stride + k − half`.
    pub fn forward(len: usize, out: usize, kernel: usize, stride: usize) -> Self {
        let half = kernel / 2;
        let last = (out - 1) * stride + kernel - 1;
        Self {
            pad: (half, (last + 1).saturating_sub(half + len)),
            bases: (0..out).map(|o| o * stride).collect(),
            outs: (0..out).collect(),
            taps: (0..kernel).map(|k| (k, k)).collect(),
        }
    }

    /// Input gradient at the positions i ≡ `residue` (mod stride): i = t · stride + residue reads
    /// the output gradient at `(i + half − k) / stride` for each k where that is whole.
    pub fn backward(len: usize, out: usize, kernel: usize, stride: usize, residue: usize) -> Self {
        let half = kernel / 2;
        let outs: Vec<usize> = (residue..len).step_by(stride).collect();
        let offsets: Vec<(usize, i64)> = (0..kernel)
            .filter(|k| (residue + half + stride * kernel - k).is_multiple_of(stride))
            .map(|k| (k, (residue as i64 + half as i64 - k as i64) / stride as i64))
            .collect();
        let low = offsets.iter().map(|(_, at)| -at).max().unwrap_or(0).max(0) as usize;
        let high = offsets.iter().map(|(_, at)| *at).max().unwrap_or(0).max(0) as usize;
        Self {
            pad: (low, (outs.len() + high).saturating_sub(out)),
            bases: (0..outs.len()).collect(),
            outs,
            taps: offsets.iter().map(|&(k, at)| (k, (at + low as i64) as usize)).collect(),
        }
    }
}

/// A gather over whole images.
pub(crate) struct Gather {
    /// Height, width and channels of the input.
    pub input: [usize; 3],
    /// Zeros before and after, for rows and columns.
    pub pad: [(usize, usize); 2],
    /// Offset of each output's base in the padded input, in floats.
    pub bases: Vec<usize>,
    /// Index of each output pixel.
    outs: Vec<usize>,
    /// (row, column) of the kernel, for each tap.
    kernel: Vec<(usize, usize)>,
    /// Offset of each tap from the base, in floats.
    pub taps: Vec<usize>,
    /// Channels of the output.
    pub out_channels: usize,
}

impl Gather {
    pub fn new(input: [usize; 3], rows: &Axis, columns: &Axis, out: [usize; 2]) -> Self {
        let [_, width, channels] = input;
        let padded = width + columns.pad.0 + columns.pad.1;
        let at = |y: usize, x: usize| (y * padded + x) * channels;
        let cross = |f: &mut dyn FnMut(usize, usize)| {
            for y in 0..rows.bases.len() {
                (0..columns.bases.len()).for_each(|x| f(y, x));
            }
        };
        let (mut bases, mut outs) = (Vec::new(), Vec::new());
        cross(&mut |y, x| {
            bases.push(at(rows.bases[y], columns.bases[x]));
            outs.push(rows.outs[y] * out[0] + columns.outs[x]);
        });
        let mut kernel = Vec::new();
        let mut taps = Vec::new();
        for &(ky, dy) in &rows.taps {
            for &(kx, dx) in &columns.taps {
                kernel.push((ky, kx));
                taps.push(at(dy, dx));
            }
        }
        let pad = [rows.pad, columns.pad];
        Self { input, pad, bases, outs, kernel, taps, out_channels: out[1] }
    }

    pub fn padded_len(&self) -> usize {
        let [height, width, channels] = self.input;
        let [(top, bottom), (left, right)] = self.pad;
        (height + top + bottom) * (width + left + right) * channels
    }

    /// Weights in the order they are read: `[block of LANES outputs][tap][input channel][LANES]`,
    /// missing channels zero. `weight(ky, kx, from, to)` looks one up.
    pub fn pack(&self, weight: impl Fn((usize, usize), usize, usize) -> f32 + Sync) -> Vec<f32> {
        let channels = self.input[2];
        let block = self.taps.len() * channels * LANES;
        let mut packed = vec![0.0; self.out_channels.div_ceil(LANES) * block];
        if block == 0 {
            return packed;
        }
        packed.par_chunks_exact_mut(block).enumerate().for_each(|(b, packed)| {
            let rows = packed.chunks_exact_mut(LANES).enumerate();
            for (row, lanes) in rows {
                let (tap, from) = (self.kernel[row / channels], row % channels);
                for (to, lane) in (b * LANES..self.out_channels).zip(lanes) {
                    *lane = weight(tap, from, to);
                }
            }
        });
        packed
    }

    /// Adds nothing, overwrites the outputs of this gather in `output` (`[batch, pixels, channels]`).
    pub fn run(&self, path: Path, input: &[f32], packed: &[f32], output: &mut [f32], batch: usize) {
        if self.taps.is_empty() || self.bases.is_empty() {
            return;
        }
        let image = input.len() / batch;
        let result = output.len() / batch;
        output.par_chunks_exact_mut(result).zip(input.par_chunks_exact(image)).for_each_init(
            || vec![0.0; self.padded_len()],
            |padded, (output, input)| {
                copy_inside(input, self.input, self.pad, padded);
                gather_image(path, self, padded, packed, output);
            },
        );
    }
}

/// Copies an image into the middle of a zeroed, padded one.
pub(crate) fn copy_inside(
    image: &[f32],
    [height, width, channels]: [usize; 3],
    [(top, _), (left, right)]: [(usize, usize); 2],
    padded: &mut [f32],
) {
    let row = width * channels;
    let padded_row = (width + left + right) * channels;
    for y in 0..height {
        let at = (top + y) * padded_row + left * channels;
        padded[at..at + row].copy_from_slice(&image[y * row..(y + 1) * row]);
    }
}

/// All output pixels of one image, compiled for each path. Tiles are as large as the path's
/// registers hold: 16 accumulators of 32 for AVX-512, 12 of 16 for AVX2, 8 of 16 elsewhere.
fn gather_image(path: Path, gather: &Gather, padded: &[f32], packed: &[f32], output: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn avx512(gather: &Gather, padded: &[f32], packed: &[f32], output: &mut [f32]) {
            if gather.out_channels <= 16 {
                gather_tiles::<__m512, 1, 16>(gather, padded, packed, output);
            } else {
                gather_tiles::<__m512, 2, 8>(gather, padded, packed, output);
            }
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(gather: &Gather, padded: &[f32], packed: &[f32], output: &mut [f32]) {
            gather_tiles::<__m256, 2, 6>(gather, padded, packed, output);
        }
        match path {
            // SAFETY: a path is only ever one whose instructions `path::has` found.
            Path::Avx512 => return unsafe { avx512(gather, padded, packed, output) },
            // SAFETY: as above.
            Path::Avx2 => return unsafe { avx2(gather, padded, packed, output) },
            _ => {}
        }
    }
    let _ = path;
    gather_tiles::<Four, 2, 4>(gather, padded, packed, output);
}

/// Tiles of `P` output pixels × `V` vectors of output channels.
#[inline(always)]
fn gather_tiles<S: Simd, const V: usize, const P: usize>(
    gather: &Gather,
    padded: &[f32],
    packed: &[f32],
    output: &mut [f32],
) {
    let channels = gather.input[2];
    let pixels = gather.bases.len();
    let last_tap = gather.taps.iter().max().copied().unwrap_or(0);
    let block = gather.taps.len() * channels * LANES;
    for start in (0..pixels).step_by(P) {
        let count = P.min(pixels - start);
        // A short last tile computes its last pixel again and stores it once.
        let bases: [usize; P] = std::array::from_fn(|p| gather.bases[start + p.min(count - 1)]);
        let furthest = bases.iter().max().copied().unwrap_or(0) + last_tap + channels;
        assert!(furthest <= padded.len(), "a tile reads past its image");
        for (b, weights) in packed.chunks_exact(block).enumerate() {
            for lane in (0..LANES).step_by(V * S::LANES) {
                let first = b * LANES + lane;
                if first >= gather.out_channels {
                    break;
                }
                // SAFETY: all inputs lie below `furthest`, checked above; `weights` holds LANES
                // floats for each tap and channel and `lane + V · S::LANES <= LANES`.
                let sums = unsafe {
                    gather_tile::<S, V, P>(padded, &bases, &gather.taps, channels, weights, lane)
                };
                let lanes = (V * S::LANES).min(gather.out_channels - first);
                for (sum, &out) in sums.iter().zip(&gather.outs[start..start + count]) {
                    let at = out * gather.out_channels + first;
                    store(sum, &mut output[at..at + lanes]);
                }
            }
        }
    }
}

/// `P` pixels × `V` vectors of sums, in registers over all taps and channels.
///
/// # Safety
/// `padded` reaches to the largest base + tap + `channels`; `weights` holds, for each tap and
/// channel, LANES floats, of which those from `lane` on are at least `V` vectors.
#[inline(always)]
unsafe fn gather_tile<S: Simd, const V: usize, const P: usize>(
    padded: &[f32],
    bases: &[usize; P],
    taps: &[usize],
    channels: usize,
    weights: &[f32],
    lane: usize,
) -> [[S; V]; P] {
    // SAFETY: see the function's own contract; every offset below stays within it.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; P];
        let mut weight = weights.as_ptr().add(lane);
        for &tap in taps {
            let inputs: [*const f32; P] =
                std::array::from_fn(|p| padded.as_ptr().add(bases[p] + tap));
            for channel in 0..channels {
                let w: [S; V] = std::array::from_fn(|v| S::load(weight.add(v * S::LANES)));
                for (sums, input) in sums.iter_mut().zip(&inputs) {
                    let x = S::splat(*input.add(channel));
                    for (sum, &w) in sums.iter_mut().zip(&w) {
                        *sum = x.mul_add(w, *sum);
                    }
                }
                weight = weight.wrapping_add(LANES);
            }
        }
        sums
    }
}

/// Stores the first `out.len()` lanes of a row of vectors.
#[inline(always)]
pub(crate) fn store<S: Simd, const V: usize>(row: &[S; V], out: &mut [f32]) {
    let mut whole = [0.0f32; LANES];
    let to = if out.len() == V * S::LANES { out.as_mut_ptr() } else { whole.as_mut_ptr() };
    for (v, vector) in row.iter().enumerate() {
        // SAFETY: `to` points at V · S::LANES floats: at `out` of just that length, or at `whole`.
        unsafe { vector.store(to.add(v * S::LANES)) };
    }
    if out.len() < V * S::LANES {
        out.copy_from_slice(&whole[..out.len()]);
    }
}
