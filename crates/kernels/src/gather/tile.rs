//! Tiles of a gather: output pixels × output channels that stay in registers over a slab of weights.

use super::plan::{Gather, Inputs, Segment, lanes};
use crate::fill::Slot;
use crate::pairs::{Emulated, Format};
use crate::path::Path;
use crate::simd::{Four, Simd};

/// The first `count` pixels of a gather: stores all channels of each at its place in `output`, with `add` added to what
/// is there. Compiled for each path; tiles are as large as the path's registers hold.
///
/// # Panics
/// If a place lies beyond `output`.
///
/// # Safety
/// The padded images reach to the base of each of the pixels + the gather's `reach`; the weights hold a block of the gather's for
/// every block of lanes; and with `add`, `output` holds floats at the places of the pixels.
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
            // SAFETY: the caller's; compiled for AVX512-BF16.
            unsafe { wide::<Dot>(g, x, y, count, add) }
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512(g: &Gather, x: Inputs, y: &mut [Slot], count: usize, add: bool) {
            // SAFETY: the caller's; compiled for AVX-512.
            unsafe {
                match g.format {
                    Format::Floats => wide::<__m512>(g, x, y, count, add),
                    Format::Pairs => wide::<Emulated<__m512>>(g, x, y, count, add),
                }
            }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(g: &Gather, x: Inputs, y: &mut [Slot], count: usize, add: bool) {
            // SAFETY: the caller's; compiled for AVX2 and FMA.
            unsafe {
                match g.format {
                    Format::Floats => tiles::<__m256, 2, 6>(g, x, y, count, add),
                    Format::Pairs => tiles::<Emulated<__m256>, 2, 4>(g, x, y, count, add),
                }
            }
        }
        match path {
            Path::Avx512Bf16(_) if gather.format == Format::Pairs => {
                // SAFETY: the path says that this machine has the instructions (`Found`); the rest is the caller's.
                return unsafe { bf16(gather, inputs, output, count, add) };
            }
            Path::Avx512Bf16(_) | Path::Avx512(_) => {
                // SAFETY: the path says that this machine has the instructions (`Found`); the rest is the caller's.
                return unsafe { avx512(gather, inputs, output, count, add) };
            }
            // SAFETY: as above.
            Path::Avx2(_) => return unsafe { avx2(gather, inputs, output, count, add) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: `Four` needs no instructions; the rest is the caller's.
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
    // SAFETY: the caller's.
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
                    let at: [usize; P] = std::array::from_fn(|p| start + p.min(valid - 1));
                    let bases = at.map(|i| gather.bases[i]);
                    // SAFETY: compiled for the instructions.
                    let mut sums = unsafe { [[S::splat(0.0); V]; P] };
                    if add || s > 0 {
                        for (sums, &i) in sums.iter_mut().zip(&at) {
                            let there = &output[gather.outs[i] + first..][..width];
                            // SAFETY: the slab before stored these very floats; before the first, the caller has some.
                            load(sums, unsafe { there.assume_init_ref() });
                        }
                    }
                    // SAFETY: the caller's `padded` holds the furthest input; `weights` holds `lanes` floats for
                    // each input of the slab, and `lane + V · S::LANES` is at most `lanes`, a multiple of both.
                    unsafe { tile(padded, &bases, slab, column, &mut sums) };
                    for (sums, &i) in sums.iter().zip(&at).take(valid) {
                        store(sums, &mut output[gather.outs[i] + first..][..width]);
                    }
                }
            }
        }
    }
}

/// The weights of a slab that a tile reads: for each input the vectors from `lane` on, out of `lanes` floats.
#[derive(Clone, Copy)]
struct Column<'a> {
    weights: &'a [f32],
    lanes: usize,
    lane: usize,
}

/// Adds to `into` (`P` pixels × `V` vectors) the products of a slab, in registers.
///
/// # Safety
/// `padded` reaches to the largest base + segment offset + length; `weights` holds `lanes` floats for
/// each input of the slab, of which those from `lane` on are at least `V` vectors.
#[inline(always)]
unsafe fn tile<S: Simd, const V: usize, const P: usize>(
    padded: &[f32],
    bases: &[usize; P],
    slab: &[Segment],
    Column { weights, lanes, lane }: Column,
    into: &mut [[S; V]; P],
) {
    // SAFETY: see the function's own contract; every offset below stays within it.
    unsafe {
        let mut sums = *into;
        let mut weight = weights.as_ptr().add(lane);
        for segment in slab {
            let inputs: [*const f32; P] =
                std::array::from_fn(|p| padded.as_ptr().add(bases[p] + segment.offset));
            for i in 0..segment.len {
                let w: [S; V] = std::array::from_fn(|v| S::load(weight.add(v * S::LANES)));
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

/// Most floats in a row of vectors.
const MOST: usize = 32;

/// Loads `from.len()` lanes of a row of vectors, the others zero.
///
/// # Panics
/// If `from` has more.
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
    for (v, vector) in row.iter_mut().enumerate() {
        // SAFETY: `source` points at V · S::LANES floats: at `from` of just that length, or at `whole` of at least that;
        // a vector type is only used by functions compiled for its instructions.
        *vector = unsafe { S::load(source.add(v * S::LANES)) };
    }
}

/// A float, or the place of one.
///
/// # Safety
/// The type has the size of a float, and any float is a value of it.
pub(crate) unsafe trait Place: Copy {
    const ZERO: Self;
}

// SAFETY: it is a float.
unsafe impl Place for f32 {
    const ZERO: Self = 0.0;
}

// SAFETY: `MaybeUninit` has the size of what it may hold, and takes any value of it.
unsafe impl Place for Slot {
    const ZERO: Self = Slot::new(0.0);
}

/// Stores the first `out.len()` lanes of a row of vectors.
///
/// # Panics
/// If there are fewer.
#[inline(always)]
pub(crate) fn store<S: Simd, P: Place, const V: usize>(row: &[S; V], out: &mut [P]) {
    const { assert!(V * S::LANES <= MOST) };
    let mut whole = [P::ZERO; MOST];
    let to = if out.len() == V * S::LANES { out.as_mut_ptr() } else { whole.as_mut_ptr() };
    for (v, vector) in row.iter().enumerate() {
        // SAFETY: `to` points at V · S::LANES places of floats: at `out` of just that length, or at `whole` of at least
        // that; a vector type is only used by functions compiled for its instructions.
        unsafe { vector.store(to.cast::<f32>().add(v * S::LANES)) };
    }
    if out.len() != V * S::LANES {
        out.copy_from_slice(&whole[..V * S::LANES][..out.len()]);
    }
}
