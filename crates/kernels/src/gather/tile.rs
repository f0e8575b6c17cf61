//! Tiles of a gather: output pixels × output channels that stay in registers over a slab of weights.

use super::plan::{Gather, Inputs, Segment, lanes};
use crate::fill::Slot;
use crate::pairs::{Emulated, Format};
use crate::path::Path;
use crate::simd::{Four, Simd, load_row};

/// Computes the first `count` pixels of a gather: stores all channels of each at its place in `output`; with `add`,
/// adds them to the values there. Compiled for each path; tiles are as large as the path's registers allow.
///
/// # Panics
/// If a place lies beyond `output`.
///
/// # Safety
/// The padded images extend to the base of each pixel + the gather's `reach`; the weights hold one of the gather's
/// blocks for every block of lanes; and with `add`, `output` holds floats at the places of the pixels.
pub(super) unsafe fn gather(
    path: Path,
    gather: &Gather,
    inputs: Inputs,
    output: &mut [Slot],
    count: usize,
    add: bool,
) {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::pairs::Dot;
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512bf16,avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn bf16(g: &Gather, x: Inputs, y: &mut [Slot], count: usize, add: bool) {
            // SAFETY: the caller upholds the contract; compiled for AVX512-BF16.
            unsafe { wide::<Dot>(g, x, y, count, add) }
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512(g: &Gather, x: Inputs, y: &mut [Slot], count: usize, add: bool) {
            // SAFETY: the caller upholds the contract; compiled for AVX-512.
            unsafe {
                match g.format {
                    Format::Floats => wide::<__m512>(g, x, y, count, add),
                    Format::Pairs => wide::<Emulated<__m512>>(g, x, y, count, add),
                }
            }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(g: &Gather, x: Inputs, y: &mut [Slot], count: usize, add: bool) {
            // SAFETY: the caller upholds the contract; compiled for AVX2 and FMA.
            unsafe {
                match g.format {
                    Format::Floats => tiles::<__m256, 2, 6>(g, x, y, count, add),
                    Format::Pairs => tiles::<Emulated<__m256>, 2, 4>(g, x, y, count, add),
                }
            }
        }
        match path {
            Path::Avx512Bf16(_) if gather.format == Format::Pairs => {
                // SAFETY: the path proves the machine has the instructions (`Found`); the caller upholds the rest.
                return unsafe { bf16(gather, inputs, output, count, add) };
            }
            Path::Avx512Bf16(_) | Path::Avx512(_) => {
                // SAFETY: the path proves the machine has the instructions (`Found`); the caller upholds the rest.
                return unsafe { avx512(gather, inputs, output, count, add) };
            }
            // SAFETY: as above.
            Path::Avx2(_) => return unsafe { avx2(gather, inputs, output, count, add) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: `Four` needs no instructions; the caller upholds the rest.
    unsafe {
        match gather.format {
            Format::Floats => tiles::<Four, 2, 4>(gather, inputs, output, count, add),
            Format::Pairs => tiles::<Emulated<Four>, 2, 4>(gather, inputs, output, count, add),
        }
    }
}

/// Tiles for the 32 registers of AVX-512.
///
/// # Safety
/// As [`gather`], compiled for the instructions of `S`.
#[inline(always)]
unsafe fn wide<S: Simd>(g: &Gather, x: Inputs, y: &mut [Slot], count: usize, add: bool) {
    // SAFETY: the caller upholds the contract.
    unsafe {
        if g.out_channels <= 16 {
            tiles::<S, 1, 12>(g, x, y, count, add);
        } else {
            tiles::<S, 2, 8>(g, x, y, count, add);
        }
    }
}

/// Tiles of `P` output pixels × `V` vectors of output channels.
///
/// # Safety
/// As [`gather`], compiled for the instructions of `S`.
#[inline(always)]
unsafe fn tiles<S: Simd, const V: usize, const P: usize>(
    gather: &Gather,
    inputs: Inputs,
    output: &mut [Slot],
    count: usize,
    add: bool,
) {
    let Inputs { padded, weights } = inputs;
    let lanes = lanes(gather.out_channels);
    for b in 0..gather.out_channels.div_ceil(lanes) {
        let mut rest = &weights.packed[b * weights.stride..][..gather.block()];
        for (s, slab) in gather.slabs.iter().enumerate() {
            let len: usize = slab.iter().map(|s| s.len).sum();
            let (weights, later) = rest.split_at(len * lanes);
            rest = later;
            for lane in (0..lanes).step_by(V * S::LANES) {
                let first = b * lanes + lane;
                if first >= gather.out_channels {
                    break;
                }
                let column = Column { weights, lanes, lane };
                let width = (V * S::LANES).min(gather.out_channels - first);
                for start in (0..count).step_by(P) {
                    let valid = P.min(count - start);
                    // A short last tile computes its last pixel again and stores it once.
                    let mut at = [start + valid - 1; P];
                    for (p, at) in at.iter_mut().enumerate().take(valid) {
                        *at = start + p;
                    }
                    let mut bases = [0; P];
                    for (base, &i) in bases.iter_mut().zip(&at) {
                        *base = gather.bases[i];
                    }
                    // SAFETY: compiled for the instructions of `S`.
                    let mut sums = unsafe { [[S::splat(0.0); V]; P] };
                    if add || s > 0 {
                        for (sums, &i) in sums.iter_mut().zip(&at) {
                            let there = &output[gather.outs[i] + first..][..width];
                            // SAFETY: the previous slab stored these floats; for the first (`add`), the caller did.
                            load(sums, unsafe { there.assume_init_ref() });
                        }
                    }
                    // SAFETY: the caller's `padded` holds the furthest input; `weights` holds `lanes` floats for
                    // each input of the slab; `lane` + V · S::LANES ≤ `lanes`: both are multiples of V · S::LANES.
                    unsafe { tile(padded, &bases, slab, column, &mut sums) };
                    for (sums, &i) in sums.iter().zip(&at).take(valid) {
                        store(sums, &mut output[gather.outs[i] + first..][..width]);
                    }
                }
            }
        }
    }
}

/// The weights of a slab that a tile reads: for each input, the vectors from `lane` on, out of `lanes` floats.
#[derive(Clone, Copy)]
struct Column<'a> {
    weights: &'a [f32],
    lanes: usize,
    lane: usize,
}

/// Adds to `into` (`P` pixels × `V` vectors) the products of a slab, in registers.
///
/// # Safety
/// `padded` extends to the largest base + segment offset + length; `weights` holds `lanes` floats for
/// each input of the slab, and those from `lane` on make up at least `V` vectors.
#[inline(always)]
unsafe fn tile<S: Simd, const V: usize, const P: usize>(
    padded: &[f32],
    bases: &[usize; P],
    slab: &[Segment],
    Column { weights, lanes, lane }: Column,
    into: &mut [[S; V]; P],
) {
    // SAFETY: every offset below stays within the bounds of this function's contract.
    unsafe {
        let mut sums = *into;
        let mut weight = weights.as_ptr().add(lane);
        for segment in slab {
            let mut inputs = [padded.as_ptr(); P];
            for (input, &base) in inputs.iter_mut().zip(bases) {
                *input = input.add(base + segment.offset);
            }
            for i in 0..segment.len {
                let w: [S; V] = load_row(weight);
                for (sums, input) in sums.iter_mut().zip(&inputs) {
                    let x = S::splat(*input.add(i));
                    for (sum, &w) in sums.iter_mut().zip(&w) {
                        *sum = x.mul_add(w, *sum);
                    }
                }
                weight = weight.wrapping_add(lanes);
            }
        }
        *into = sums;
    }
}

/// Maximum number of floats in a row of vectors.
const MOST: usize = 32;

/// Loads `from.len()` lanes of a row of vectors; the others are zero.
///
/// # Panics
/// If `from` is longer than the row.
#[inline(always)]
pub(crate) fn load<S: Simd, const V: usize>(row: &mut [S; V], from: &[f32]) {
    const { assert!(V * S::LANES <= MOST) };
    let mut whole = [0.0f32; MOST];
    let source = if from.len() == V * S::LANES {
        from.as_ptr()
    } else {
        whole[..V * S::LANES][..from.len()].copy_from_slice(from);
        whole.as_ptr()
    };
    // SAFETY: `source` points to V · S::LANES floats: to `from` of exactly that length, or to `whole` of at least that
    // length; a vector type is used only by functions compiled for its instructions.
    *row = unsafe { load_row(source) };
}

/// A float, or a slot for one.
///
/// # Safety
/// The type has the size of a float, and any float is a valid value of it.
pub(crate) unsafe trait Place: Copy {
    const ZERO: Self;
}

// SAFETY: it is a float.
unsafe impl Place for f32 {
    const ZERO: Self = 0.0;
}

// SAFETY: a `MaybeUninit` has the size of the type that it may hold, and any value of that type is valid.
unsafe impl Place for Slot {
    const ZERO: Self = Slot::new(0.0);
}

/// Stores the first `out.len()` lanes of a row of vectors.
///
/// # Panics
/// If `out` is longer than the row.
#[inline(always)]
pub(crate) fn store<S: Simd, P: Place, const V: usize>(row: &[S; V], out: &mut [P]) {
    const { assert!(V * S::LANES <= MOST) };
    let mut whole = [P::ZERO; MOST];
    let to = if out.len() == V * S::LANES { out.as_mut_ptr() } else { whole.as_mut_ptr() };
    for (v, vector) in row.iter().enumerate() {
        // SAFETY: `to` points to V · S::LANES places of floats: to `out` of exactly that length, or to `whole` of at
        // least that length; a vector type is used only by functions compiled for its instructions.
        unsafe { vector.store(to.cast::<f32>().add(v * S::LANES)) };
    }
    if out.len() != V * S::LANES {
        out.copy_from_slice(&whole[..V * S::LANES][..out.len()]);
    }
}
