//! Products in bf16: factors are rounded to bf16, two in the place of a float; products are summed as floats.
//!
//! A kernel that multiplies runs of floats can also multiply pairs: an input becomes a pair of inputs, a weight
//! a pair of weights, and `a · b + c` adds the products of both elements to `c`. So the tiles of the gather and of
//! the weight gradient serve both formats; with pairs they see half as many channels, or half as many pixels.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};

use crate::path::kernel;
use crate::simd::Simd;

/// The number format that convolutions and linear layers multiply in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Floats.
    #[default]
    Floats,
    /// Pairs of bf16.
    Pairs,
}

impl Format {
    /// Places that this many channels of a pixel take.
    pub fn places(self, channels: usize) -> usize {
        match self {
            Self::Floats => channels,
            Self::Pairs => channels.div_ceil(2),
        }
    }
}

/// The bits of the nearest bf16, ties to even, in the upper half; NaN stays NaN.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let nan = bits | 0x0040_0000;
    if value.is_nan() { nan } else { nearest }
}

/// Two values in the place of one, the first in the lower half.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits((rounded(first) >> 16) | (rounded(second) & 0xffff_0000))
}

#[inline(always)]
fn pair_channels_body<const FMA: bool>(from: &[f32], channels: usize, to: &mut [f32]) {
    if channels.is_multiple_of(2) {
        for (to, from) in to.iter_mut().zip(from.as_chunks::<2>().0) {
            *to = pair(from[0], from[1]);
        }
        return;
    }
    let places = Format::Pairs.places(channels);
    for (to, from) in to.chunks_exact_mut(places).zip(from.chunks_exact(channels)) {
        for (to, from) in to.iter_mut().zip(from.chunks(2)) {
            *to = pair(from[0], from.get(1).copied().unwrap_or(0.0));
        }
    }
}

#[inline(always)]
fn pair_rows_body<const FMA: bool>(first: &mut [f32], second: &[f32]) {
    for (first, &second) in first.iter_mut().zip(second) {
        *first = pair(*first, second);
    }
}

kernel! {
    /// Pairs neighbouring channels of each pixel; the last of an odd number is paired with zero.
    pair_channels(from: &[f32], channels: usize, to: &mut [f32]) = pair_channels_body
}
kernel! {
    /// Pairs the values of two rows, in place of the first.
    pair_rows(first: &mut [f32], second: &[f32]) = pair_rows_body
}

/// Pairs each row of an image with the row `apart` rows below, or with zeros where there is none. In place.
pub(crate) fn pair_image(path: crate::path::Path, image: &mut [f32], row: usize, apart: usize) {
    let rows = image.len() / row;
    for r in 0..rows {
        let (before, below) = image.split_at_mut(image.len().min((r + apart) * row));
        let first = &mut before[r * row..(r + 1) * row];
        match below.get(..row) {
            Some(second) => pair_rows(path, first, second),
            None => first.iter_mut().for_each(|v| *v = pair(*v, 0.0)),
        }
    }
}

/// Vectors of bf16 pairs, multiplied by the instruction for them (AVX512-BF16).
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Dot(__m512);

#[cfg(target_arch = "x86_64")]
impl Simd for Dot {
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller upholds the contract.
        Self(unsafe { __m512::splat(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller upholds the contract.
        Self(unsafe { __m512::load(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller upholds the contract.
        unsafe { self.0.store(to) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller is compiled for AVX512-BF16; float and bf16 vectors have equal size and take any bits.
        unsafe {
            // The instruction can take its last factor from memory, even a single pair for all lanes: so the splat
            // factor comes last.
            let a: __m512bh = std::mem::transmute(self.0);
            let b: __m512bh = std::mem::transmute(b.0);
            Self(_mm512_dpbf16_ps(c.0, b, a))
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller upholds the contract.
        Self(unsafe { self.0.add(b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller upholds the contract.
        Self(unsafe { self.0.sub(b.0) })
    }
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        // SAFETY: the caller upholds the contract.
        let [lower, upper] = unsafe { self.0.halves() };
        [Self(lower), Self(upper)]
    }
}

/// The same with products of floats, for machines without the instruction.
#[derive(Clone, Copy)]
pub(crate) struct Emulated<S>(S);

impl<S: Simd> Simd for Emulated<S> {
    const LANES: usize = S::LANES;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller upholds the contract.
        Self(unsafe { S::splat(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller upholds the contract.
        Self(unsafe { S::load(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller upholds the contract.
        unsafe { self.0.store(to) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller upholds the contract.
        unsafe {
            let ([a0, a1], [b0, b1]) = (self.0.halves(), b.0.halves());
            Self(a0.mul_add(b0, a1.mul_add(b1, c.0)))
        }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller upholds the contract.
        Self(unsafe { self.0.add(b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: the caller upholds the contract.
        Self(unsafe { self.0.sub(b.0) })
    }
    #[inline(always)]
    unsafe fn halves(self) -> [Self; 2] {
        // SAFETY: the caller upholds the contract.
        let [lower, upper] = unsafe { self.0.halves() };
        [Self(lower), Self(upper)]
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::bf16;
    use proptest::prelude::*;

    use super::*;
    use crate::path::Path;

    #[test]
    fn a_pair_is_rounded_as_bf16_is() {
        for path in Path::found() {
            for bits in
                (0..u32::MAX).step_by(65_537 * 3).chain([0x7f80_0001, 0x7fff_ffff, 0xff80_0000])
            {
                let value = f32::from_bits(bits);
                let mut pairs = [0.0];
                pair_channels(path, &[value, -1.5], 2, &mut pairs);
                let (lower, upper) = (pairs[0].to_bits() as u16, (pairs[0].to_bits() >> 16) as u16);
                assert_eq!(upper, bf16::from_f32(-1.5).to_bits());
                if value.is_nan() {
                    assert!(bf16::from_bits(lower).is_nan(), "{bits:x}");
                } else {
                    assert_eq!(lower, bf16::from_f32(value).to_bits(), "{bits:x}");
                }
            }
        }
    }

    #[test]
    fn the_last_of_an_odd_number_pairs_with_zero() {
        let mut pairs = [7.0; 4];
        pair_channels(Path::Portable, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, &mut pairs);
        assert_eq!(pairs, [pair(1.0, 2.0), pair(3.0, 0.0), pair(4.0, 5.0), pair(6.0, 0.0)]);
        let mut image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        pair_image(Path::Portable, &mut image, 2, 2);
        assert_eq!(image[..2], [pair(1.0, 5.0), pair(2.0, 6.0)]);
        assert_eq!(image[2..], [pair(3.0, 0.0), pair(4.0, 0.0), pair(5.0, 0.0), pair(6.0, 0.0)]);
    }

    proptest! {
        /// Emulated sums of products of bf16 are as exact as floats.
        #[test]
        fn products_of_pairs_are_summed_in_32_bits(values in prop::collection::vec(-2f32..2.0, 64)) {
            let rounded: Vec<f32> = values.iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
            let (a, b) = rounded.split_at(32);
            let exact: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let pairs = |v: &[f32]| v.chunks(2).map(|v| pair(v[0], v[1])).collect::<Vec<_>>();
            let (pa, pb) = (pairs(a), pairs(b));
            // SAFETY: `Four` needs no instructions; the arrays hold four floats from each place on.
            let found: f32 = unsafe {
                let mut sums = Emulated::<crate::simd::Four>::splat(0.0);
                for i in (0..16).step_by(4) {
                    let [a, b] = [&pa, &pb].map(|v| Emulated::load(v[i..].as_ptr()));
                    sums = a.mul_add(b, sums);
                }
                let mut lanes = [0.0; 4];
                sums.store(lanes.as_mut_ptr());
                lanes.iter().sum()
            };
            prop_assert!((f64::from(found) - exact).abs() < 1e-4, "{found} {exact}");
        }
    }
}
