//! Convolution on channels-last images: forward, input gradient, weight gradient.
//!
//! Forward and input gradient are one routine, a *gather*: each output pixel sums, over a list of
//! taps, the input channels at a fixed offset from its base times a block of weights. The gradient
//! of a strided convolution is one gather for each residue of the output position, so no work is
//! spent on inserted zeros. A tile keeps PIXELS × LANES sums in registers over all taps and input
//! channels.

use std::ops::Range;

use rayon::prelude::*;

use crate::path::{Path, kernel, mul_add};

/// Output channels of a tile: two AVX-512 registers.
const LANES: usize = 32;
/// Output pixels of a tile: with two registers each, sixteen accumulators.
const PIXELS: usize = 8;
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
            .filter(|k| (residue + half + stride * kernel - k) % stride == 0)
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

kernel!(
    /// All output pixels of one image.
    gather_image(gather: &Gather, padded: &[f32], packed: &[f32], output: &mut [f32])
        = gather_image_body
);

#[inline(always)]
fn gather_image_body<const FMA: bool>(
    gather: &Gather,
    padded: &[f32],
    packed: &[f32],
    output: &mut [f32],
) {
    let channels = gather.input[2];
    let block = gather.taps.len() * channels * LANES;
    for (b, weights) in packed.chunks_exact(block).enumerate() {
        let first = b * LANES;
        let lanes = LANES.min(gather.out_channels - first);
        for start in (0..gather.bases.len()).step_by(PIXELS) {
            let count = PIXELS.min(gather.bases.len() - start);
            // A short last tile computes its last pixel again and stores it once.
            let bases: [usize; PIXELS] =
                std::array::from_fn(|p| gather.bases[start + p.min(count - 1)]);
            let sums = if lanes <= LANES / 2 {
                gather_tile::<FMA, { LANES / 2 }>(padded, &bases, &gather.taps, channels, weights)
            } else {
                gather_tile::<FMA, LANES>(padded, &bases, &gather.taps, channels, weights)
            };
            for (sum, &out) in sums.iter().zip(&gather.outs[start..start + count]) {
                let at = out * gather.out_channels + first;
                output[at..at + lanes].copy_from_slice(&sum[..lanes]);
            }
        }
    }
}

/// PIXELS × `N` sums in registers over all taps and channels. The other lanes stay zero.
#[inline(always)]
fn gather_tile<const FMA: bool, const N: usize>(
    padded: &[f32],
    bases: &[usize; PIXELS],
    taps: &[usize],
    channels: usize,
    weights: &[f32],
) -> [[f32; LANES]; PIXELS] {
    let mut sums = [[0.0f32; N]; PIXELS];
    let mut rows = weights.chunks_exact(LANES);
    for &tap in taps {
        // One check per pixel and tap; the channel loop below has none.
        let inputs: [&[f32]; PIXELS] =
            std::array::from_fn(|p| &padded[bases[p] + tap..bases[p] + tap + channels]);
        for channel in 0..channels {
            let Some(weight) = rows.next() else { break };
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                // SAFETY: each input slice was cut to `channels` floats above.
                let x = unsafe { *input.get_unchecked(channel) };
                for lane in 0..N {
                    sum[lane] = mul_add::<FMA>(x, weight[lane], sum[lane]);
                }
            }
        }
    }
    let mut out = [[0.0; LANES]; PIXELS];
    out.iter_mut().zip(&sums).for_each(|(out, sum)| out[..N].copy_from_slice(sum));
    out
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
            for i in range {
                copy_inside(&images[i * image..(i + 1) * image], input, gather.pad, &mut padded);
                let gradient = &gradient[i * result..(i + 1) * result];
                outer_image(path, &gather, &padded, gradient, &mut sums);
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

kernel!(
    /// Adds one image's outer products of inputs and output gradients to `sums`.
    outer_image(gather: &Gather, padded: &[f32], gradient: &[f32], sums: &mut [f32])
        = outer_image_body
);

#[inline(always)]
fn outer_image_body<const FMA: bool>(
    gather: &Gather,
    padded: &[f32],
    gradient: &[f32],
    sums: &mut [f32],
) {
    let channels = gather.input[2];
    let out = gather.out_channels;
    for (t, &tap) in gather.taps.iter().enumerate() {
        for from in (0..channels).step_by(ROWS) {
            let rows = ROWS.min(channels - from);
            let mut to = 0;
            while to < out {
                let at = |row: usize| (t * channels + from + row) * out + to;
                // Whole registers where there are enough channels, single ones at the end.
                let width = if out - to >= LANES {
                    let tile = outer_tile::<FMA, LANES>(gather, padded, gradient, tap + from, to);
                    add_rows(&tile, rows, LANES, sums, at);
                    LANES
                } else if out - to >= LANES / 2 {
                    let tile =
                        outer_tile::<FMA, { LANES / 2 }>(gather, padded, gradient, tap + from, to);
                    add_rows(&tile, rows, LANES / 2, sums, at);
                    LANES / 2
                } else {
                    let tile = outer_tile::<FMA, 1>(gather, padded, gradient, tap + from, to);
                    add_rows(&tile, rows, 1, sums, at);
                    1
                };
                to += width;
            }
        }
    }
}

#[inline(always)]
fn add_rows<const N: usize>(
    tile: &[[f32; N]; ROWS],
    rows: usize,
    lanes: usize,
    sums: &mut [f32],
    at: impl Fn(usize) -> usize,
) {
    for (row, tile) in tile.iter().enumerate().take(rows) {
        let sums = &mut sums[at(row)..at(row) + lanes];
        sums.iter_mut().zip(tile).for_each(|(sum, value)| *sum += value);
    }
}

/// ROWS input channels × `N` output channels, summed over the pixels of an image.
#[inline(always)]
fn outer_tile<const FMA: bool, const N: usize>(
    gather: &Gather,
    padded: &[f32],
    gradient: &[f32],
    offset: usize,
    to: usize,
) -> [[f32; N]; ROWS] {
    let mut sums = [[0.0f32; N]; ROWS];
    let rows = gradient.chunks_exact(gather.out_channels);
    for (&base, row) in gather.bases.iter().zip(rows) {
        // `padded` has ROWS floats to spare, so a short last block of channels reads on; what it
        // gives is dropped by the caller.
        let input = &padded[base + offset..base + offset + ROWS];
        let gradient = &row[to..to + N];
        for (sum, &x) in sums.iter_mut().zip(input) {
            for (sum, &g) in sum.iter_mut().zip(gradient) {
                *sum = mul_add::<FMA>(x, g, *sum);
            }
        }
    }
    sums
}
