//! Tiles of a gather: output pixels × output channels that stay in registers over a slab of weights.

use super::{Gather, Segment, Weights, lanes};
use crate::path::Path;
use crate::simd::{Four, Simd};

/// Compiled for each path. Tiles are as large as the path's registers hold.
pub(super) fn gather(
    path: Path,
    gather: &Gather,
    padded: &[f32],
    weights: Weights,
    output: &mut [f32],
    count: usize,
    add: bool,
) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn avx512(g: &Gather, x: &[f32], w: Weights, y: &mut [f32], count: usize, add: bool) {
            if g.out_channels <= 16 {
                tiles::<__m512, 1, 12>(g, x, w, y, count, add);
            } else {
                tiles::<__m512, 2, 8>(g, x, w, y, count, add);
            }
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(g: &Gather, x: &[f32], w: Weights, y: &mut [f32], count: usize, add: bool) {
            tiles::<__m256, 2, 6>(g, x, w, y, count, add);
        }
        match path {
            // SAFETY: a path is only ever one whose instructions `path::has` found.
            Path::Avx512 => return unsafe { avx512(gather, padded, weights, output, count, add) },
            // SAFETY: as above.
            Path::Avx2 => return unsafe { avx2(gather, padded, weights, output, count, add) },
            _ => {}
        }
    }
    let _ = path;
    tiles::<Four, 2, 4>(gather, padded, weights, output, count, add);
}

/// Tiles of `P` output pixels × `V` vectors of output channels.
#[inline(always)]
fn tiles<S: Simd, const V: usize, const P: usize>(
    gather: &Gather,
    padded: &[f32],
    weights: Weights,
    output: &mut [f32],
    count: usize,
    add: bool,
) {
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
                let width = (V * S::LANES).min(gather.out_channels - first);
                for start in (0..count).step_by(P) {
                    let valid = P.min(count - start);
                    // A short last tile computes its last pixel again and stores it once.
                    let at: [usize; P] = std::array::from_fn(|p| start + p.min(valid - 1));
                    let bases = at.map(|i| gather.bases[i]);
                    // SAFETY: this function is inlined into one compiled for the path.
                    let mut sums = unsafe { [[S::splat(0.0); V]; P] };
                    if add || s > 0 {
                        for (sums, &i) in sums.iter_mut().zip(&at) {
                            load(sums, &output[gather.outs[i] + first..][..width]);
                        }
                    }
                    // SAFETY: `Gather::run` checked that the furthest input lies in `padded`; `weights`
                    // holds `lanes` floats for each input of the slab, and `lane + V · S::LANES` is at
                    // most `lanes`.
                    unsafe { tile(padded, &bases, slab, weights, lanes, lane, &mut sums) };
                    for (sums, &i) in sums.iter().zip(&at).take(valid) {
                        store(sums, &mut output[gather.outs[i] + first..][..width]);
                    }
                }
            }
        }
    }
}

/// Adds to `sums` (`P` pixels × `V` vectors) the products of a slab, in registers.
///
/// # Safety
/// `padded` reaches to the largest base + segment offset + length; `weights` holds `lanes` floats for
/// each input of the slab, of which those from `lane` on are at least `V` vectors.
#[inline(always)]
unsafe fn tile<S: Simd, const V: usize, const P: usize>(
    padded: &[f32],
    bases: &[usize; P],
    slab: &[Segment],
    weights: &[f32],
    lanes: usize,
    lane: usize,
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
#[inline(always)]
pub(crate) fn load<S: Simd, const V: usize>(row: &mut [S; V], from: &[f32]) {
    let mut whole = [0.0f32; MOST];
    let source = if from.len() == V * S::LANES {
        from.as_ptr()
    } else {
        whole[..from.len()].copy_from_slice(from);
        whole.as_ptr()
    };
    for (v, vector) in row.iter_mut().enumerate() {
        // SAFETY: `source` points at V · S::LANES ≤ MOST floats.
        *vector = unsafe { S::load(source.add(v * S::LANES)) };
    }
}

/// Stores the first `out.len()` lanes of a row of vectors.
#[inline(always)]
pub(crate) fn store<S: Simd, const V: usize>(row: &[S; V], out: &mut [f32]) {
    let mut whole = [0.0f32; MOST];
    let to = if out.len() == V * S::LANES { out.as_mut_ptr() } else { whole.as_mut_ptr() };
    for (v, vector) in row.iter().enumerate() {
        // SAFETY: `to` points at V · S::LANES floats: at `out` of just that length, or at `whole`.
        unsafe { vector.store(to.add(v * S::LANES)) };
    }
    if out.len() < V * S::LANES {
        out.copy_from_slice(&whole[..out.len()]);
    }
}
