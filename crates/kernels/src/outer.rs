//! The weight gradient: sums of outer products of inputs and output gradients over all pixels, in
//! register tiles of inputs × output channels.

use crate::gather::{Padded, load, store};
use crate::path::Path;
use crate::simd::{Four, Simd};

/// Floats that a buffer needs after its last one, because tiles at the ends read on.
pub(crate) const SPARE: usize = 48;

/// Where the products are taken.
pub(crate) struct Outer {
    /// The padded inputs; a run of the kernel starts at `origin` for the first output pixel.
    pub input: Padded,
    pub origin: usize,
    /// The padded gradient, `[.., out]`.
    pub gradient: Padded,
    /// Kernel side and stride.
    pub kernel: usize,
    pub stride: usize,
}

impl Outer {
    /// Adds the products of `images` images to `sums` (`[kernel row][kernel column][in][out]`).
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn run(
        &self,
        path: Path,
        padded: &[f32],
        gradient: &[f32],
        images: usize,
        sums: &mut [f32],
    ) {
        let [height, width, out] = self.gradient.inner;
        let channels = self.input.inner[2];
        let step = self.stride;
        let furthest = (images - 1) * self.input.len()
            + self.origin
            + ((height - 1) * step + self.kernel - 1) * self.input.row()
            + ((width - 1) * step + self.kernel) * channels;
        assert!(furthest + SPARE <= padded.len(), "a tile reads past its images");
        assert!(images * self.gradient.len() + SPARE <= gradient.len(), "a tile reads past its end");
        assert_eq!(sums.len(), self.kernel * self.kernel * channels * out);
        outer(path, self, padded, gradient, images, sums);
    }
}

/// Compiled for each path.
fn outer(
    path: Path,
    outer: &Outer,
    padded: &[f32],
    gradient: &[f32],
    images: usize,
    sums: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn avx512(o: &Outer, x: &[f32], g: &[f32], images: usize, sums: &mut [f32]) {
            if o.gradient.inner[2] > 16 {
                tiles::<__m512, 2, 12>(o, x, g, images, sums);
            } else {
                tiles::<__m512, 1, 16>(o, x, g, images, sums);
            }
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(o: &Outer, x: &[f32], g: &[f32], images: usize, sums: &mut [f32]) {
            tiles::<__m256, 2, 6>(o, x, g, images, sums);
        }
        match path {
            // SAFETY: a path is only ever one whose instructions `path::has` found.
            Path::Avx512 => return unsafe { avx512(outer, padded, gradient, images, sums) },
            // SAFETY: as above.
            Path::Avx2 => return unsafe { avx2(outer, padded, gradient, images, sums) },
            _ => {}
        }
    }
    let _ = path;
    tiles::<Four, 2, 4>(outer, padded, gradient, images, sums);
}

/// Tiles of `R` inputs × `V` vectors of output channels, over all pixels of the images.
#[inline(always)]
fn tiles<S: Simd, const V: usize, const R: usize>(
    outer: &Outer,
    padded: &[f32],
    gradient: &[f32],
    images: usize,
    sums: &mut [f32],
) {
    let out = outer.gradient.inner[2];
    let run = outer.kernel * outer.input.inner[2];
    for to in (0..out).step_by(V * S::LANES) {
        let width = (V * S::LANES).min(out - to);
        for row in 0..outer.kernel {
            for from in (0..run).step_by(R) {
                let rows = R.min(run - from);
                let at = |r: usize| (row * run + from + r) * out + to;
                let mut tile = [[S::zero(); V]; R];
                for (r, tile) in tile.iter_mut().enumerate().take(rows) {
                    load(tile, &sums[at(r)..][..width]);
                }
                let offset = outer.origin + row * outer.input.row() + from;
                // SAFETY: `Outer::run` checked that the furthest input and gradient of any tile, with
                // SPARE more (at least R and V vectors), lie in their buffers.
                unsafe { products(outer, padded, gradient, images, offset, to, &mut tile) };
                for (r, tile) in tile.iter().enumerate().take(rows) {
                    store(tile, &mut sums[at(r)..][..width]);
                }
            }
        }
    }
}

/// One tile over all pixels, in registers.
///
/// # Safety
/// For each output pixel, `padded` reaches to its place + `offset` + `R` and `gradient` to its place
/// + `to` + `V` vectors.
#[inline(always)]
unsafe fn products<S: Simd, const V: usize, const R: usize>(
    outer: &Outer,
    padded: &[f32],
    gradient: &[f32],
    images: usize,
    offset: usize,
    to: usize,
    into: &mut [[S; V]; R],
) {
    let [height, width, out] = outer.gradient.inner;
    let [(top, _), (left, _)] = outer.gradient.pad;
    let step = outer.stride * outer.input.inner[2];
    // SAFETY: see the function's own contract; every place below is that of an output pixel.
    unsafe {
        let mut sums = *into;
        for image in 0..images {
            for y in 0..height {
                let at = image * outer.input.len() + y * outer.stride * outer.input.row() + offset;
                let mut input = padded.as_ptr().add(at);
                let at = image * outer.gradient.len() + (top + y) * outer.gradient.row();
                let mut g = gradient.as_ptr().add(at + left * out + to);
                for _ in 0..width {
                    let vectors: [S; V] = std::array::from_fn(|v| S::load(g.add(v * S::LANES)));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = S::splat(*input.add(r));
                        for (sum, &g) in sums.iter_mut().zip(&vectors) {
                            *sum = x.mul_add(g, *sum);
                        }
                    }
                    input = input.wrapping_add(step);
                    g = g.wrapping_add(out);
                }
            }
        }
        *into = sums;
    }
}
