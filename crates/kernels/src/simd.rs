//! The vector types of the instruction paths, behind one small trait.
//!
//! The compiler turns the register tiles of the convolution into scalar code on its own, so they are
//! written with explicit vectors. Every method is inlined into a function that is compiled for the
//! path. A closure lacks the path's instructions, and whether it is inlined, for example into `array::map`, depends on the
//! build. So tiles are written as loops.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::path::Path;

/// A vector of 32-bit floats.
///
/// # Safety
/// The methods may be called only where the path's instructions exist; `load` and `store` need
/// [`LANES`](Simd::LANES) floats at the pointer.
pub(crate) trait Simd: Copy {
    /// Floats in a vector.
    const LANES: usize;
    /// `value` in all lanes.
    unsafe fn splat(value: f32) -> Self;
    /// Loads from memory, unaligned.
    unsafe fn load(from: *const f32) -> Self;
    /// Stores to memory, unaligned.
    unsafe fn store(self, to: *mut f32);
    /// `self · b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self − b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// Takes each lane as a pair of bf16: returns the lower and the upper values as floats.
    unsafe fn halves(self) -> [Self; 2];
}

/// Loads `V` vectors that follow each other in memory.
///
/// # Safety
/// As [`Simd::load`], for `V` vectors.
#[inline(always)]
pub(crate) unsafe fn load_row<S: Simd, const V: usize>(from: *const f32) -> [S; V] {
    // SAFETY: the caller upholds the contract.
    unsafe {
        let mut row = [S::splat(0.0); V];
        for (v, vector) in row.iter_mut().enumerate() {
            *vector = S::load(from.add(v * S::LANES));
        }
        row
    }
}

/// Work on vectors, the same for every path.
pub(crate) trait Vectors {
    /// Does the work. An implementation is `#[inline(always)]`, so it is compiled for the instructions of `S`.
    ///
    /// # Safety
    /// As the methods of [`Simd`], and what the implementation demands.
    unsafe fn run<S: Simd>(self);
}

/// Does `work` with the vectors of `path`, in 32 bits.
///
/// # Safety
/// What the implementation of [`Vectors::run`] demands.
pub(crate) unsafe fn on<W: Vectors>(path: Path, work: W) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512<W: Vectors>(work: W) {
            // SAFETY: the caller upholds the contract; compiled for AVX-512.
            unsafe { work.run::<__m512>() }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<W: Vectors>(work: W) {
            // SAFETY: the caller upholds the contract; compiled for AVX2 and FMA.
            unsafe { work.run::<__m256>() }
        }
        match path {
            // SAFETY: the path proves the machine has the instructions (`Found`); the caller upholds the rest.
            Path::Avx512Bf16(_) | Path::Avx512(_) => return unsafe { avx512(work) },
            // SAFETY: as above.
            Path::Avx2(_) => return unsafe { avx2(work) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: `Four` needs no instructions; the caller upholds the rest.
    unsafe { work.run::<Four>() }
}

#[cfg(target_arch = "x86_64")]
impl Simd for __m512 {
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller is compiled for AVX-512.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller is compiled for AVX-512 and gives 16 readable floats.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller is compiled for AVX-512 and gives 16 writable floats.
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller is compiled for AVX-512.
        unsafe { _mm512_fmadd_ps(self, b, c) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller is compiled for AVX-512.
        unsafe { _mm512_add_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller is compiled for AVX-512.
        unsafe { _mm512_sub_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        // SAFETY: the caller is compiled for AVX-512.
        unsafe {
            let bits = _mm512_castps_si512(self);
            let upper = _mm512_and_si512(bits, _mm512_set1_epi32(UPPER as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)), _mm512_castsi512_ps(upper)]
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Simd for __m256 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller is compiled for AVX2.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller is compiled for AVX2 and gives 8 readable floats.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller is compiled for AVX2 and gives 8 writable floats.
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller is compiled for AVX2 and FMA.
        unsafe { _mm256_fmadd_ps(self, b, c) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller is compiled for AVX2.
        unsafe { _mm256_add_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller is compiled for AVX2.
        unsafe { _mm256_sub_ps(self, b) }
    }
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        // SAFETY: the caller is compiled for AVX2.
        unsafe {
            let bits = _mm256_castps_si256(self);
            let upper = _mm256_and_si256(bits, _mm256_set1_epi32(UPPER as i32));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)), _mm256_castsi256_ps(upper)]
        }
    }
}

/// Four floats, for the baseline instructions of the target.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub(crate) struct Four([f32; 4]);

impl Simd for Four {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller gives 4 readable floats.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller gives 4 writable floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - b.0[i]))
    }
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        let bits = self.0.map(f32::to_bits);
        [bits.map(|b| b << 16), bits.map(|b| b & UPPER)].map(|half| Self(half.map(f32::from_bits)))
    }
}

/// Mask of the upper half of a pair.
const UPPER: u32 = 0xffff_0000;
