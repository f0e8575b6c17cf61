//! The transforms of weights, patches and products, for each instruction path.

use super::tiles::{PLACES, Tiles};
use crate::fill::Slot;
use crate::path::{Path, kernel};
use crate::simd::{Four, Simd};

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
pub(super) fn patches(
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
            // SAFETY: the caller upholds the contract; compiled for AVX-512.
            unsafe { patches_body::<__m512>(t, x, images, v, step) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(t: &Tiles, x: &[f32], images: usize, v: &mut [f32], step: usize) {
            // SAFETY: the caller upholds the contract; compiled for AVX2.
            unsafe { patches_body::<__m256>(t, x, images, v, step) }
        }
        match path {
            Path::Avx512Bf16(_) | Path::Avx512(_) => {
                // SAFETY: the path proves the machine has the instructions (`Found`); the sizes are checked above.
                return unsafe { avx512(tiles, padded, images, v, step) };
            }
            // SAFETY: as above.
            Path::Avx2(_) => return unsafe { avx2(tiles, padded, images, v, step) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: `Four` needs no instructions; the sizes are checked above.
    unsafe { patches_body::<Four>(tiles, padded, images, v, step) }
}

/// # Safety
/// See the assertions of [`patches`]; compiled for the instructions of `S`.
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
                        // Loops, not closures: a closure is not compiled for the path's instructions.
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
    // SAFETY: the caller upholds the contract.
    unsafe { [a.sub(c), b.add(c), c.sub(b), b.sub(d)] }
}

/// The products of all tiles: those of place p of tile t from `values[p · step + t · out]` on.
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    pub values: &'a [f32],
    pub step: usize,
}

/// Aᵀ m A of every tile: writes the images of `output`, `[tile row · 2, tile column · 2, out]` each; with `add`, adds
/// to the values there.
///
/// # Panics
/// If there are too few products, or `output` is not a whole number of images.
///
/// # Safety
/// With `add`, `output` holds floats.
pub(super) unsafe fn back(
    path: Path,
    tiles: &Tiles,
    out: usize,
    m: Products,
    output: &mut [Slot],
    add: bool,
) {
    let image = 4 * tiles.count() * out;
    assert!(out.is_multiple_of(16), "whole vectors");
    assert!(image > 0 && output.len().is_multiple_of(image), "whole images");
    let count = output.len() / image * tiles.count();
    assert!(count * out <= m.step && PLACES * m.step <= m.values.len(), "a product for each");
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512(t: &Tiles, out: usize, m: Products, y: &mut [Slot], add: bool) {
            // SAFETY: the caller upholds the contract; compiled for AVX-512.
            unsafe { back_body::<__m512>(t, out, m, y, add) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(t: &Tiles, out: usize, m: Products, y: &mut [Slot], add: bool) {
            // SAFETY: the caller upholds the contract; compiled for AVX2.
            unsafe { back_body::<__m256>(t, out, m, y, add) }
        }
        match path {
            Path::Avx512Bf16(_) | Path::Avx512(_) => {
                // SAFETY: the path proves the machine has the instructions (`Found`); the sizes are checked
                // above, and the caller ensures what `output` holds.
                return unsafe { avx512(tiles, out, m, output, add) };
            }
            // SAFETY: as above.
            Path::Avx2(_) => return unsafe { avx2(tiles, out, m, output, add) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: `Four` needs no instructions; the sizes are checked above; the caller ensures what `output` holds.
    unsafe { back_body::<Four>(tiles, out, m, output, add) }
}

/// # Safety
/// See the assertions of [`back`], and its contract; compiled for the instructions of `S`.
#[inline(always)]
unsafe fn back_body<S: Simd>(
    tiles: &Tiles,
    out: usize,
    m: Products,
    output: &mut [Slot],
    add: bool,
) {
    let row = 2 * tiles.columns * out;
    let image = 2 * tiles.rows * row;
    let Products { values, step } = m;
    let mut from = values.as_ptr();
    // SAFETY: by this function's contract.
    unsafe {
        for output in output.chunks_exact_mut(image) {
            for y in 0..tiles.rows {
                for x in 0..tiles.columns {
                    let to = output.as_mut_ptr().cast::<f32>().add(2 * y * row + 2 * x * out);
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
    // SAFETY: the caller upholds the contract.
    unsafe { [a.add(b).add(c), b.sub(c).sub(d)] }
}
