//! Convolution on channels-last images: forward, input gradient, weight gradient.
//!
//! Forward and input gradient are a [gather](crate::gather); the gradient of a strided convolution
//! is one gather for each residue of the output position, so no work is spent on inserted zeros.
//! The weight gradient sums outer products of inputs and output gradients in register tiles.

use std::ops::Range;

use rayon::prelude::*;

use crate::gather::{Axis, Gather, LANES, copy_inside, store};
use crate::path::Path;
use crate::simd::{Four, Simd};

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

    /// What each output pixel reads of the images.
    fn gather(&self) -> Gather {
        let rows = Axis::forward(self.height, self.out_height(), self.kernel, self.stride);
        let columns = Axis::forward(self.width, self.out_width(), self.kernel, self.stride);
        let input = [self.height, self.width, self.channels];
        Gather::new(input, &rows, &columns, [self.out_width(), self.out])
    }

    fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}

/// `images` `[batch, height, width, channels]` to `[batch, out height, out width, out]`.
pub(crate) fn forward(path: Path, g: Geometry, images: &[f32], weight: &[f32], out: &mut [f32]) {
    let gather = g.gather();
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
    let gather = g.gather();
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
                copy_inside(
                    &images[i * image..(i + 1) * image],
                    gather.input,
                    gather.pad,
                    &mut padded,
                );
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
