//! A small product of matrices that stay in the cache, in tiles held in registers.

use crate::path::Path;
use crate::simd::{Four, Simd, load_row};

/// Columns of a tile: the width of the product is a multiple of it.
pub(super) const TILE: usize = 16;

/// `c = a · b`: `a` is `m × k` with strides by row and column, `b` is `k` rows of `n` floats, `c` is `m`
/// rows of `n`.
///
/// # Panics
/// If m is not a multiple of 8, n is not a multiple of [`TILE`], or a slice is too short.
pub(super) fn product(
    path: Path,
    a: &[f32],
    strides: [usize; 2],
    b: &[f32],
    c: &mut [f32],
    sizes: [usize; 3],
) {
    let [m, k, n] = sizes;
    assert!(m % 8 == 0 && n % TILE == 0 && m > 0 && k > 0, "{m} x {n} is no whole number of tiles");
    assert!(b.len() >= k * n && c.len() >= m * n, "b or c is too short");
    assert!(a.len() > (m - 1) * strides[0] + (k - 1) * strides[1], "a is too short");
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512(a: &[f32], s: [usize; 2], b: &[f32], c: &mut [f32], sizes: [usize; 3]) {
            // SAFETY: the caller upholds the contract; compiled for AVX-512.
            unsafe { body::<__m512, 8, 1>(a, s, b, c, sizes) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(a: &[f32], s: [usize; 2], b: &[f32], c: &mut [f32], sizes: [usize; 3]) {
            // SAFETY: the caller upholds the contract; compiled for AVX2.
            unsafe { body::<__m256, 4, 2>(a, s, b, c, sizes) }
        }
        match path {
            Path::Avx512Bf16(_) | Path::Avx512(_) => {
                // SAFETY: the path proves the machine has the instructions (`Found`); lengths were checked above.
                return unsafe { avx512(a, strides, b, c, sizes) };
            }
            // SAFETY: as above.
            Path::Avx2(_) => return unsafe { avx2(a, strides, b, c, sizes) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: `Four` needs no instructions; lengths were checked above.
    unsafe { body::<Four, 2, 4>(a, strides, b, c, sizes) }
}

/// Tiles of `R` rows and `V` vectors.
///
/// # Safety
/// Compiled for the instructions of `S`; `V` vectors are [`TILE`] floats, `R` divides m, and the slices
/// are as long as [`product`] requires.
#[inline(always)]
unsafe fn body<S: Simd, const R: usize, const V: usize>(
    a: &[f32],
    [by_row, by_column]: [usize; 2],
    b: &[f32],
    c: &mut [f32],
    [m, k, n]: [usize; 3],
) {
    for i in (0..m).step_by(R) {
        for j in (0..n).step_by(TILE) {
            // SAFETY: row i + R − 1 < m and column j + TILE ≤ n lie within a, b and c.
            unsafe {
                let mut tile = [[S::splat(0.0); V]; R];
                for p in 0..k {
                    let row: [S; V] = load_row(b.as_ptr().add(p * n + j));
                    for (r, tile) in tile.iter_mut().enumerate() {
                        let at = (i + r) * by_row + p * by_column;
                        let factor = S::splat(*a.get_unchecked(at));
                        for (sum, row) in tile.iter_mut().zip(row) {
                            *sum = factor.mul_add(row, *sum);
                        }
                    }
                }
                for (r, tile) in tile.into_iter().enumerate() {
                    let to = c.as_mut_ptr().add((i + r) * n + j);
                    for (v, sum) in tile.into_iter().enumerate() {
                        sum.store(to.add(v * S::LANES));
                    }
                }
            }
        }
    }
}
