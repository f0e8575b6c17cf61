//! Convolution on channels-last images: forward, input gradient, weight gradient.
//!
//! Forward and input gradient are one routine, a *gather*: each output pixel sums, over a list of
//! taps, the input channels at a fixed offset from its base times a block of weights. The gradient
//! of a strided convolution is one gather for each residue of the output position, so no work is
//! spent on inserted zeros. A tile of output pixels × output channels stays in registers over all
//! taps and input channels.

use std::ops::Range;

use rayon::prelude::*;

use crate::path::Path;
use crate::simd::{Four, Simd};

/// Output channels in a block of packed weights: two AVX-512 registers.
const LANES: usize = 32;
/// Input channels of a tile of the weight gradient.
const ROWS: usize = 8;
/// Chunks a batch is split into for the weight gradient, whatever the threads.
const CHUNKS: usize = 16;

/// The sizes of a convolution, padded by half the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
}

impl Geometry {
    pub fn out_height(&self) -> usize {
        self.height.div_ceil(self.stride)
    }

    pub fn out_width(&self) -> usize {
        self.width.div_ceil(self.stride)
    }

    fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}

/// Position and offsets of a gather, along one axis.
struct Axis {
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
    fn forward(len: usize, out: usize, kernel: usize, stride: usize) -> Self {
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
    fn backward(len: usize, out: usize, kernel: usize, stride: usize, residue: usize) -> Self {
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
    input: [usize; 3],
    pad: [(usize, usize); 2],
    /// Offset of each output's base in the padded input, in floats.
    bases: Vec<usize>,
    /// Index of each output pixel.
    outs: Vec<usize>,
    /// (row, column) of the kernel, for each tap.
    kernel: Vec<(usize, usize)>,
    /// Offset of each tap from the base, in floats.
    taps: Vec<usize>,
    out_channels: usize,
}

impl Gather {
    fn new(input: [usize; 3], rows: &Axis, columns: &Axis, out: [usize; 2]) -> Self {
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

    fn padded_len(&self) -> usize {
        let [height, width, channels] = self.input;
        let [(top, bottom), (left, right)] = self.pad;
        (height + top + bottom) * (width + left + right) * channels
    }

    /// Weights in the order they are read: `[block of LANES outputs][tap][input channel][LANES]`,
    /// missing channels zero. `weight(ky, kx, from, to)` looks one up.
    fn pack(&self, weight: impl Fn((usize, usize), usize, usize) -> f32 + Sync) -> Vec<f32> {
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
    fn run(&self, path: Path, input: &[f32], packed: &[f32], output: &mut [f32], batch: usize) {
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
fn copy_inside(
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
fn store<S: Simd, const V: usize>(row: &[S; V], out: &mut [f32]) {
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

/// `images` `[batch, height, width, channels]` to `[batch, out height, out width, out]`.
pub(crate) fn forward(path: Path, g: Geometry, images: &[f32], weight: &[f32], out: &mut [f32]) {
    let rows = Axis::forward(g.height, g.out_height(), g.kernel, g.stride);
    let columns = Axis::forward(g.width, g.out_width(), g.kernel, g.stride);
    let input = [g.height, g.width, g.channels];
    let gather = Gather::new(input, &rows, &columns, [g.out_width(), g.out]);
    let packed = gather.pack(|(ky, kx), from, to| {
        weight[((to * g.channels + from) * g.kernel + ky) * g.kernel + kx]
    });
    gather.run(path, images, &packed, out, g.batch);
}

/// The gradient of the images, from that of the output; `out` starts zeroed.
pub(crate) fn input_gradient(
    path: Path,
    g: Geometry,
    gradient: &[f32],
    weight: &[f32],
    out: &mut [f32],
) {
    let axis = |len, out, residue| Axis::backward(len, out, g.kernel, g.stride, residue);
    for y in 0..g.stride.min(g.height) {
        for x in 0..g.stride.min(g.width) {
            let rows = axis(g.height, g.out_height(), y);
            let columns = axis(g.width, g.out_width(), x);
            let input = [g.out_height(), g.out_width(), g.out];
            let gather = Gather::new(input, &rows, &columns, [g.width, g.channels]);
            let packed = gather.pack(|(ky, kx), from, to| {
                weight[((from * g.channels + to) * g.kernel + ky) * g.kernel + kx]
            });
            gather.run(path, gradient, &packed, out, g.batch);
        }
    }
}

/// The gradient of the weight `[out, in, kernel, kernel]`, from the images and the gradient of the
/// output.
pub(crate) fn weight_gradient(
    path: Path,
    g: Geometry,
    images: &[f32],
    gradient: &[f32],
    out: &mut [f32],
) {
    let rows = Axis::forward(g.height, g.out_height(), g.kernel, g.stride);
    let columns = Axis::forward(g.width, g.out_width(), g.kernel, g.stride);
    let input = [g.height, g.width, g.channels];
    let gather = Gather::new(input, &rows, &columns, [g.out_width(), g.out]);
    let (image, result) = (images.len() / g.batch, gradient.len() / g.batch);
    let chunk = g.batch.div_ceil(CHUNKS);
    let ranges: Vec<Range<usize>> =
        (0..g.batch).step_by(chunk).map(|i| i..g.batch.min(i + chunk)).collect();
    // Partial sums [tap][in][out] per chunk of images, added in the order of the chunks.
    let partial: Vec<Vec<f32>> = ranges
        .into_par_iter()
        .map(|range| {
            let mut sums = vec![0.0; g.taps() * g.channels * g.out];
            let mut padded = vec![0.0; gather.padded_len() + ROWS];
            let mut spare = vec![0.0; result + LANES];
            for i in range {
                copy_inside(&images[i * image..(i + 1) * image], input, gather.pad, &mut padded);
                spare[..result].copy_from_slice(&gradient[i * result..(i + 1) * result]);
                outer_image(path, &gather, &padded, &spare, &mut sums);
            }
            sums
        })
        .collect();
    let at = |tap: usize, from: usize, to: usize| (tap * g.channels + from) * g.out + to;
    out.par_chunks_exact_mut(g.channels * g.taps()).enumerate().for_each(|(to, out)| {
        for (i, value) in out.iter_mut().enumerate() {
            let (from, tap) = (i / g.taps(), i % g.taps());
            *value = partial.iter().map(|sums| sums[at(tap, from, to)]).sum();
        }
    });
}

/// Adds one image's outer products of inputs and output gradients to `sums` (`[tap][in][out]`),
/// compiled for each path.
fn outer_image(path: Path, gather: &Gather, padded: &[f32], gradient: &[f32], sums: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn avx512(gather: &Gather, padded: &[f32], gradient: &[f32], sums: &mut [f32]) {
            if gather.out_channels.is_multiple_of(32) {
                outer_tiles::<__m512, 2, 8>(gather, padded, gradient, sums);
            } else {
                outer_tiles::<__m512, 1, 8>(gather, padded, gradient, sums);
            }
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(gather: &Gather, padded: &[f32], gradient: &[f32], sums: &mut [f32]) {
            outer_tiles::<__m256, 1, 8>(gather, padded, gradient, sums);
        }
        match path {
            // SAFETY: a path is only ever one whose instructions `path::has` found.
            Path::Avx512 => return unsafe { avx512(gather, padded, gradient, sums) },
            // SAFETY: as above.
            Path::Avx2 => return unsafe { avx2(gather, padded, gradient, sums) },
            _ => {}
        }
    }
    let _ = path;
    outer_tiles::<Four, 1, 8>(gather, padded, gradient, sums);
}

/// Tiles of `R` input channels × `V` vectors of output channels. `gradient` is followed by LANES
/// spare floats and each image of `padded` by ROWS, so tiles at the ends may read on; what that
/// gives is not stored.
#[inline(always)]
fn outer_tiles<S: Simd, const V: usize, const R: usize>(
    gather: &Gather,
    padded: &[f32],
    gradient: &[f32],
    sums: &mut [f32],
) {
    let channels = gather.input[2];
    let out = gather.out_channels;
    let last_tap = gather.taps.iter().max().copied().unwrap_or(0);
    let furthest = gather.bases.iter().max().copied().unwrap_or(0) + last_tap + channels + R;
    assert!(furthest <= padded.len(), "a tile reads past its image");
    assert!(gather.bases.len() * out + LANES <= gradient.len(), "a tile reads past its gradient");
    for (t, &tap) in gather.taps.iter().enumerate() {
        for from in (0..channels).step_by(R) {
            for to in (0..out).step_by(V * S::LANES) {
                // SAFETY: the furthest input and the furthest gradient were checked above.
                let tile =
                    unsafe { outer_tile::<S, V, R>(gather, padded, gradient, tap + from, to) };
                let lanes = (V * S::LANES).min(out - to);
                for (row, tile) in tile.iter().enumerate().take(channels - from) {
                    let mut part = [0.0f32; LANES];
                    store(tile, &mut part[..V * S::LANES]);
                    let at = (t * channels + from + row) * out + to;
                    let sums = &mut sums[at..at + lanes];
                    sums.iter_mut().zip(&part).for_each(|(sum, value)| *sum += value);
                }
            }
        }
    }
}

/// `R` input channels × `V` vectors of output channels, summed over the pixels of an image.
///
/// # Safety
/// `padded` reaches to the largest base + `offset` + `R`, `gradient` to its last pixel + `to` +
/// `V` vectors.
#[inline(always)]
unsafe fn outer_tile<S: Simd, const V: usize, const R: usize>(
    gather: &Gather,
    padded: &[f32],
    gradient: &[f32],
    offset: usize,
    to: usize,
) -> [[S; V]; R] {
    // SAFETY: see the function's own contract; every offset below stays within it.
    unsafe {
        let mut sums = [[S::splat(0.0); V]; R];
        let mut row = gradient.as_ptr().add(to);
        for &base in &gather.bases {
            let input = padded.as_ptr().add(base + offset);
            let g: [S; V] = std::array::from_fn(|v| S::load(row.add(v * S::LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = S::splat(*input.add(r));
                for (sum, &g) in sums.iter_mut().zip(&g) {
                    *sum = x.mul_add(g, *sum);
                }
            }
            row = row.wrapping_add(gather.out_channels);
        }
        sums
    }
}
