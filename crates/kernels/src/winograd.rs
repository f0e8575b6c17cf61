//! Winograd's convolution F(2×2, 3×3) (Lavin & Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016): a tile of 2×2 outputs costs 16 products by channel instead of 36.
//!
//! Each 4×4 patch of the input is transformed to 16 values by channel; for each of the 16 places, all
//! tiles of a group are multiplied with the transformed weights of that place, a 1×1 convolution; and
//! the 16 products of a tile are transformed to its outputs. With this small tile the transforms only
//! add, subtract and halve, so results are about as exact as those of the direct sum.

use rayon::prelude::*;

use crate::conv::Geometry;
use crate::gather::{Axis, Gather, Padded, Weights, lanes};
use crate::path::{Path, kernel};
use crate::scratch::{Aligned, scratch};
use crate::simd::{Four, Simd};

/// Places of a transformed tile.
const PLACES: usize = 16;
/// Below this many channels, the transforms cost more than the products saved.
const LEAST: usize = 64;
/// Above this many weights by place, reading them for every group of images may cost more than the
/// products saved; up to here it was measured not to.
const MOST: usize = 1 << 18;
/// Floats between the values of two places beyond what they need, so that the 16 do not all compete
/// for the same lines of the cache.
const SKEW: usize = 16;

/// Is this convolution one that gains?
pub(crate) fn takes(g: &Geometry) -> bool {
    let whole = |channels: usize| channels.is_multiple_of(16) && channels >= LEAST;
    (g.kernel, g.stride) == (3, 1)
        && g.height.is_multiple_of(2)
        && g.width.is_multiple_of(2)
        && whole(g.channels)
        && whole(g.out)
        && g.channels * g.out <= MOST
}

/// A convolution of groups of padded images with its transformed weights.
pub(crate) struct Winograd {
    tiles: Tiles,
    /// The product at one place: `[tile][in]` times `[in][out]`.
    product: Gather,
    /// `[block of lanes][place][in][lane]`.
    weights: Aligned,
    channels: usize,
    out: usize,
}

/// Where the tiles of an image lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles {
    padded: Padded,
    /// Offset of the first patch.
    origin: usize,
    /// Rows and columns of tiles.
    rows: usize,
    columns: usize,
}

impl Tiles {
    /// Of images whose first output reads from one pixel before them.
    pub fn new(padded: Padded) -> Self {
        let [height, width, channels] = padded.inner;
        let [(top, _), (left, _)] = padded.pad;
        let origin = (top - 1) * padded.row() + (left - 1) * channels;
        Self { padded, origin, rows: height / 2, columns: width / 2 }
    }

    /// Tiles of an image.
    pub fn count(&self) -> usize {
        self.rows * self.columns
    }
}

impl Winograd {
    /// The weight of kernel position (y, x) from input channel i to output channel o is
    /// `weight[i · from + o · to + 3 · y + x]`, with `flip` that of (2 − y, 2 − x).
    pub fn new(
        path: Path,
        padded: Padded,
        out: usize,
        group: usize,
        weight: &[f32],
        [from, to]: [usize; 2],
        flip: bool,
    ) -> Self {
        let tiles = Tiles::new(padded);
        let channels = padded.inner[2];
        let count = tiles.count();
        let line = Padded { inner: [1, count, channels], pad: [(0, 0); 2] };
        let (one, all) = (Axis::forward(1, 1, 1, 1, 0), Axis::forward(count, count, 1, 1, 0));
        let product = Gather::new(line, &one, &all, [count, count, out], group);
        let lanes = lanes(out);
        let mut weights = Aligned::unset(out.div_ceil(lanes) * PLACES * channels * lanes);
        weights.par_chunks_exact_mut(PLACES * channels * lanes).enumerate().for_each(
            |(b, weights)| {
                let outs = lanes.min(out - b * lanes);
                for i in 0..channels {
                    let mut taps = [[0.0f32; 32]; 9];
                    for lane in 0..outs {
                        let kernel = &weight[i * from + (b * lanes + lane) * to..][..9];
                        for (t, &w) in kernel.iter().enumerate() {
                            taps[if flip { 8 - t } else { t }][lane] = w;
                        }
                    }
                    let mut places = [[0.0f32; 32]; PLACES];
                    transform_weights(path, &taps, &mut places);
                    for (place, values) in places.iter().enumerate() {
                        weights[(place * channels + i) * lanes..][..lanes]
                            .copy_from_slice(&values[..lanes]);
                    }
                }
            },
        );
        Self { tiles, product, weights, channels, out }
    }

    /// Writes (or with `add`, adds to) the outputs of `images` images.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn run(&self, path: Path, padded: &[f32], output: &mut [f32], images: usize, add: bool) {
        let Self { tiles, channels, out, .. } = *self;
        let count = images * tiles.count();
        let (values, products) = (count * channels + SKEW, count * out + SKEW);
        let mut v = scratch(PLACES * values);
        let mut m = scratch(PLACES * products);
        patches(path, &tiles, padded, images, &mut v, values);
        let block = channels * lanes(out);
        for (place, (v, m)) in v.chunks(values).zip(m.chunks_mut(products)).enumerate() {
            let weights =
                Weights { packed: &self.weights[place * block..], stride: PLACES * block };
            self.product.run(path, v, weights, m, images, false);
        }
        let image = tiles.rows * tiles.columns * 4 * out;
        assert!(images * image <= output.len() && PLACES * products <= m.len());
        back(path, &tiles, out, &m, products, &mut output[..images * image], add);
    }
}

kernel!(
    /// G g Gᵀ of 32 kernels, by their nine taps.
    transform_weights(taps: &[[f32; 32]; 9], places: &mut [[f32; 32]; 16]) = transform_weights_body
);

#[inline(always)]
fn transform_weights_body<const FMA: bool>(taps: &[[f32; 32]; 9], places: &mut [[f32; 32]; 16]) {
    // G of three values: the first, half of all, half with the second negated, the last.
    let three = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    for lane in 0..32 {
        let columns: [[f32; 4]; 3] =
            std::array::from_fn(|x| three(taps[x][lane], taps[3 + x][lane], taps[6 + x][lane]));
        for y in 0..4 {
            let row = three(columns[0][y], columns[1][y], columns[2][y]);
            for (x, value) in row.into_iter().enumerate() {
                places[4 * y + x][lane] = value;
            }
        }
    }
}

/// Bᵀ d B of every patch of `images` images: the values of place p of tile t from
/// `v[p · step + t · channels]` on.
///
/// # Panics
/// If a buffer is too short.
pub(crate) fn patches(
    path: Path,
    tiles: &Tiles,
    padded: &[f32],
    images: usize,
    v: &mut [f32],
    step: usize,
) {
    let channels = tiles.padded.inner[2];
    assert!(channels.is_multiple_of(16), "whole vectors");
    assert!(images * tiles.padded.len() <= padded.len(), "as many padded images");
    assert!(
        images * tiles.count() * channels <= step && PLACES * step <= v.len(),
        "room for the values"
    );
    // The last patch reads 2 pixels past its tile.
    let furthest = tiles.origin
        + (2 * tiles.rows + 1) * tiles.padded.row()
        + (2 * tiles.columns + 2) * channels;
    assert!(furthest <= tiles.padded.len(), "patches lie in their image");
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512(t: &Tiles, x: &[f32], images: usize, v: &mut [f32], step: usize) {
            // SAFETY: as below.
            unsafe { patches_body::<__m512>(t, x, images, v, step) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(t: &Tiles, x: &[f32], images: usize, v: &mut [f32], step: usize) {
            // SAFETY: as below.
            unsafe { patches_body::<__m256>(t, x, images, v, step) }
        }
        match path {
            // SAFETY: a path is only ever one whose instructions `path::has` found; the sizes are
            // checked above.
            Path::Avx512 => return unsafe { avx512(tiles, padded, images, v, step) },
            // SAFETY: as above.
            Path::Avx2 => return unsafe { avx2(tiles, padded, images, v, step) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: the sizes are checked above.
    unsafe { patches_body::<Four>(tiles, padded, images, v, step) }
}

/// # Safety
/// See the assertions of [`patches`].
#[inline(always)]
unsafe fn patches_body<S: Simd>(
    tiles: &Tiles,
    padded: &[f32],
    images: usize,
    v: &mut [f32],
    step: usize,
) {
    let channels = tiles.padded.inner[2];
    let row = tiles.padded.row();
    let (from, mut to) = (padded.as_ptr(), v.as_mut_ptr());
    // SAFETY: `patches` checked the furthest reads and writes.
    unsafe {
        for image in 0..images {
            for y in 0..tiles.rows {
                let first = from.add(image * tiles.padded.len() + tiles.origin + 2 * y * row);
                for x in 0..tiles.columns {
                    for c in (0..channels).step_by(S::LANES) {
                        let at = first.add(2 * x * channels + c);
                        // Loops, not closures: a closure does not take on the path's instructions.
                        let mut d = [[S::splat(0.0); 4]; 4];
                        for (r, d) in d.iter_mut().enumerate() {
                            for (q, d) in d.iter_mut().enumerate() {
                                *d = S::load(at.add(r * row + q * channels));
                            }
                        }
                        let mut columns = d;
                        for q in 0..4 {
                            columns[q] = four(d[0][q], d[1][q], d[2][q], d[3][q]);
                        }
                        for r in 0..4 {
                            let [a, b, c0, d] = &columns;
                            let values = four(a[r], b[r], c0[r], d[r]);
                            for (q, value) in values.into_iter().enumerate() {
                                value.store(to.add((4 * r + q) * step + c));
                            }
                        }
                    }
                    to = to.add(channels);
                }
            }
        }
    }
}

/// Bᵀ of four values: the first minus the third, the sum and the difference of the middle ones, the
/// second minus the last.
///
/// # Safety
/// As the methods of [`Simd`].
#[inline(always)]
unsafe fn four<S: Simd>(a: S, b: S, c: S, d: S) -> [S; 4] {
    // SAFETY: the caller's.
    unsafe { [a.sub(c), b.add(c), c.sub(b), b.sub(d)] }
}

/// Aᵀ m A of every tile: the outputs of the images, `[tile row · 2, tile column · 2, out]` each.
fn back(
    path: Path,
    tiles: &Tiles,
    out: usize,
    m: &[f32],
    step: usize,
    output: &mut [f32],
    add: bool,
) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512(t: &Tiles, out: usize, m: &[f32], step: usize, y: &mut [f32], add: bool) {
            // SAFETY: as below.
            unsafe { back_body::<__m512>(t, out, m, step, y, add) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(t: &Tiles, out: usize, m: &[f32], step: usize, y: &mut [f32], add: bool) {
            // SAFETY: as below.
            unsafe { back_body::<__m256>(t, out, m, step, y, add) }
        }
        match path {
            // SAFETY: a path is only ever one whose instructions `path::has` found; `run` checked the
            // sizes.
            Path::Avx512 => return unsafe { avx512(tiles, out, m, step, output, add) },
            // SAFETY: as above.
            Path::Avx2 => return unsafe { avx2(tiles, out, m, step, output, add) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: `run` checked the sizes.
    unsafe { back_body::<Four>(tiles, out, m, step, output, add) }
}

/// # Safety
/// `m` holds 16 values by channel of every tile, `step` apart; `output` holds whole images.
#[inline(always)]
unsafe fn back_body<S: Simd>(
    tiles: &Tiles,
    out: usize,
    m: &[f32],
    step: usize,
    output: &mut [f32],
    add: bool,
) {
    let row = 2 * tiles.columns * out;
    let image = 2 * tiles.rows * row;
    let mut from = m.as_ptr();
    // SAFETY: the function's own contract.
    unsafe {
        for output in output.chunks_exact_mut(image) {
            for y in 0..tiles.rows {
                for x in 0..tiles.columns {
                    let to = output.as_mut_ptr().add(2 * y * row + 2 * x * out);
                    for c in (0..out).step_by(S::LANES) {
                        let mut m = [[S::splat(0.0); 4]; 4];
                        for (r, m) in m.iter_mut().enumerate() {
                            for (q, m) in m.iter_mut().enumerate() {
                                *m = S::load(from.add((4 * r + q) * step + c));
                            }
                        }
                        let mut columns = [[S::splat(0.0); 2]; 4];
                        for q in 0..4 {
                            columns[q] = two(m[0][q], m[1][q], m[2][q], m[3][q]);
                        }
                        for r in 0..2 {
                            let [a, b, c0, d] = &columns;
                            let values = two(a[r], b[r], c0[r], d[r]);
                            for (q, mut value) in values.into_iter().enumerate() {
                                let to = to.add(r * row + q * out + c);
                                if add {
                                    value = value.add(S::load(to));
                                }
                                value.store(to);
                            }
                        }
                    }
                    from = from.add(out);
                }
            }
        }
    }
}

/// Aᵀ of four values.
///
/// # Safety
/// As the methods of [`Simd`].
#[inline(always)]
unsafe fn two<S: Simd>(a: S, b: S, c: S, d: S) -> [S; 2] {
    // SAFETY: the caller's.
    unsafe { [a.add(b).add(c), b.sub(c).sub(d)] }
}
