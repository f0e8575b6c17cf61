//! The weight gradient: sums of outer products of inputs and output gradients over all pixels, in
//! register tiles of inputs × output channels.

use rayon::prelude::*;

use crate::fill::{fill, zeros};
use crate::gather::{Padded, load, store};
use crate::pairs::{Emulated, Format};
use crate::path::Path;
use crate::scratch::scratch;
use crate::simd::{Four, Simd, load_row};

/// Spare floats that a buffer needs after its last one, because tiles at the end read past it.
pub(crate) const SPARE: usize = 48;

/// Output channels in a chunk of sums.
pub(crate) const LANES: usize = 32;
/// Pixels summed at a time, so that their gradients stay in the L1 cache.
const PIXELS: usize = if cfg!(miri) { 8 } else { 128 };

/// The plan of the products: where the inputs and output gradients of a group of images lie.
pub(crate) struct Outer {
    /// Offsets of each output pixel's first input and of its gradient, in floats.
    pixels: Vec<(usize, usize)>,
    /// Output pixels of an image, or pairs of them.
    each: usize,
    /// Floats between two kernel rows of the input, and in one kernel row.
    row: usize,
    run: usize,
    kernel: usize,
    out: usize,
    format: Format,
}

/// A group of images in the backward pass. For products of pairs, row y of the padded images is paired with row
/// y + stride, and row y of the gradients with row y + 1.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    /// The padded images, and their padded output gradients.
    pub padded: &'a [f32],
    pub gradient: &'a [f32],
    /// Number of images.
    pub images: usize,
}

impl Outer {
    /// For groups of `group` images: inputs of layout `input`, from `origin` on for the first output pixel,
    /// and gradients of layout `gradient`.
    pub fn new(
        input: Padded,
        origin: usize,
        gradient: Padded,
        [kernel, stride]: [usize; 2],
        group: usize,
        format: Format,
    ) -> Self {
        let [height, width, out] = gradient.inner;
        let apart = if format == Format::Pairs { 2 } else { 1 };
        let [(top, _), (left, _)] = gradient.pad;
        let channels = input.inner[2];
        let mut pixels = Vec::with_capacity(group * height * width);
        for image in 0..group {
            for y in (0..height).step_by(apart) {
                for x in 0..width {
                    let from = y * stride * input.row() + x * stride * channels + origin;
                    let to = (top + y) * gradient.row() + (left + x) * out;
                    pixels.push((image * input.len() + from, image * gradient.len() + to));
                }
            }
        }
        let each = height.div_ceil(apart) * width;
        let (row, run) = (input.row(), kernel * channels);
        Self { pixels, each, row, run, kernel, out, format }
    }

    /// Floats in a chunk of sums, one block of output channels: `[kernel row][kernel column and input
    /// channel][LANES]`.
    pub fn chunk(&self) -> usize {
        self.kernel * self.run * LANES
    }

    /// Chunks: blocks of LANES output channels.
    pub fn chunks(&self) -> usize {
        self.out.div_ceil(LANES)
    }

    /// Adds the products of a group to the sums of block `block`.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn run(&self, path: Path, group: Group, block: usize, sums: &mut [f32]) {
        let Group { padded, gradient, images } = group;
        let first = block * LANES;
        assert_eq!(sums.len(), self.chunk());
        assert!(first < self.out, "no such block");
        let outs = LANES.min(self.out - first);
        // Wide gradients are gathered block by block, so that the tiles read them contiguously.
        let gathered = self.out > LANES;
        let mut block = scratch(if gathered { PIXELS * LANES + SPARE } else { 0 });
        for pixels in self.pixels[..images * self.each].chunks(PIXELS) {
            let far = |(a, b): (usize, usize), &(c, d): &(usize, usize)| (a.max(c), b.max(d));
            let (from, to) = pixels.iter().fold((0, 0), far);
            let furthest = from + (self.kernel - 1) * self.row + self.run + SPARE;
            assert!(furthest <= padded.len(), "a tile reads past its images");
            assert!(to + first + SPARE <= gradient.len(), "a tile reads past its gradient");
            if gathered {
                // Copies arrays: for so few floats, a call to the C library takes longer than the copy itself.
                for (&(_, to), line) in pixels.iter().zip(block.as_chunks_mut::<LANES>().0) {
                    if let Some(gradient) = gradient[to + first..].first_chunk::<LANES>() {
                        *line = *gradient;
                    }
                }
            }
            let gradient = if gathered { &block } else { &gradient[first..] };
            for (row, sums) in sums.chunks_exact_mut(self.run * LANES).enumerate() {
                let task = Task {
                    pixels,
                    offset: row * self.row,
                    run: self.run,
                    outs,
                    gathered,
                    format: self.format,
                };
                // SAFETY: the assertions show that the furthest input and gradient lie in their buffers, with SPARE
                // floats more (a whole line of LANES is less); `block` has a line of LANES for each pixel.
                unsafe { outer(path, &task, padded, gradient, sums) };
            }
        }
    }

    /// Adds the sums of `parts` in order: the gradient of the weight `[out, in, kernel, kernel]`.
    pub fn reduce(&self, parts: &mut [Vec<f32>]) -> Vec<f32> {
        /// Input channels at a time, so that the data read and written stay in the L1 cache.
        const CHANNELS: usize = 16;
        let Some(total) = total(parts) else { return Vec::new() };
        let taps = self.kernel * self.kernel;
        let channels = self.run / self.kernel;
        let each = channels * taps;
        let blocks = total.par_chunks_exact(self.chunk());
        let (weight, _) = fill(self.out * each, LANES * each, blocks, |sums, weight| {
            let weight = weight.rest(zeros);
            for start in (0..channels).step_by(CHANNELS) {
                let end = channels.min(start + CHANNELS);
                for (lane, weight) in weight.chunks_exact_mut(each).enumerate() {
                    let places = weight[start * taps..end * taps].chunks_exact_mut(taps);
                    for (from, places) in (start..end).zip(places) {
                        for (tap, place) in places.iter_mut().enumerate() {
                            // The sums are laid out as [row][column][in].
                            *place = sums[(tap * channels + from) * LANES + lane];
                        }
                    }
                }
            }
        });
        weight
    }
}

/// Adds all `parts` to the first, in order, and returns it.
pub(crate) fn total(parts: &mut [Vec<f32>]) -> Option<&mut Vec<f32>> {
    let (total, rest) = parts.split_first_mut()?;
    if !rest.is_empty() {
        total.par_chunks_mut(1 << 14).enumerate().for_each(|(i, total)| {
            for part in &*rest {
                let part = &part[i << 14..][..total.len()];
                total.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
            }
        });
    }
    Some(total)
}

/// Pixels to add to one kernel row of a chunk of sums.
struct Task<'a> {
    pixels: &'a [(usize, usize)],
    /// Offset of the kernel row, and its length.
    offset: usize,
    run: usize,
    /// Output channels of the block.
    outs: usize,
    /// Whether the gradients of the pixels are contiguous.
    gathered: bool,
    format: Format,
}

/// Adds a task's products to the sums. Compiled for each path.
///
/// # Safety
/// From each pixel's first input on, `padded` holds the task's offset and run and [`SPARE`] floats more; from each
/// pixel's gradient on (if gathered, from each line of LANES on), `gradient` holds LANES floats.
unsafe fn outer(path: Path, task: &Task, padded: &[f32], gradient: &[f32], sums: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::pairs::Dot;
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512bf16,avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn bf16(task: &Task, x: &[f32], g: &[f32], sums: &mut [f32]) {
            // SAFETY: the caller upholds the contract; compiled for AVX512-BF16.
            unsafe { wide::<Dot>(task, x, g, sums) }
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512(task: &Task, x: &[f32], g: &[f32], sums: &mut [f32]) {
            // SAFETY: the caller upholds the contract; compiled for AVX-512.
            unsafe {
                match task.format {
                    Format::Floats => wide::<__m512>(task, x, g, sums),
                    Format::Pairs => wide::<Emulated<__m512>>(task, x, g, sums),
                }
            }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(task: &Task, x: &[f32], g: &[f32], sums: &mut [f32]) {
            // SAFETY: the caller upholds the contract; compiled for AVX2 and FMA.
            unsafe {
                match task.format {
                    Format::Floats => tiles::<__m256, 2, 6>(task, x, g, sums),
                    Format::Pairs => tiles::<Emulated<__m256>, 2, 4>(task, x, g, sums),
                }
            }
        }
        match path {
            Path::Avx512Bf16(_) if task.format == Format::Pairs => {
                // SAFETY: the path proves the machine has the instructions (`Found`); the caller upholds the rest.
                return unsafe { bf16(task, padded, gradient, sums) };
            }
            Path::Avx512Bf16(_) | Path::Avx512(_) => {
                // SAFETY: the path proves the machine has the instructions (`Found`); the caller upholds the rest.
                return unsafe { avx512(task, padded, gradient, sums) };
            }
            // SAFETY: as above.
            Path::Avx2(_) => return unsafe { avx2(task, padded, gradient, sums) },
            _ => {}
        }
    }
    let _ = path;
    // SAFETY: `Four` needs no instructions; the caller upholds the rest.
    unsafe {
        match task.format {
            Format::Floats => tiles::<Four, 2, 4>(task, padded, gradient, sums),
            Format::Pairs => tiles::<Emulated<Four>, 2, 4>(task, padded, gradient, sums),
        }
    }
}

/// Tiles for the 32 registers of AVX-512.
///
/// # Safety
/// As [`outer`], compiled for the instructions of `S`.
#[inline(always)]
unsafe fn wide<S: Simd>(task: &Task, padded: &[f32], gradient: &[f32], sums: &mut [f32]) {
    // SAFETY: the caller upholds the contract.
    unsafe {
        // The last tile of a kernel row computes all its inputs, so the tiles that cover the row most closely win.
        let covered = |inputs: usize| task.run.next_multiple_of(inputs);
        let least = covered(11).min(covered(12)).min(covered(13));
        if task.outs <= 16 {
            tiles::<S, 1, 16>(task, padded, gradient, sums);
        } else if covered(12) == least {
            tiles::<S, 2, 12>(task, padded, gradient, sums);
        } else if covered(13) == least {
            tiles::<S, 2, 13>(task, padded, gradient, sums);
        } else {
            tiles::<S, 2, 11>(task, padded, gradient, sums);
        }
    }
}

/// Tiles of `R` inputs × `V` vectors of output channels, over all pixels of the images.
///
/// # Safety
/// As [`outer`], compiled for the instructions of `S`.
#[inline(always)]
unsafe fn tiles<S: Simd, const V: usize, const R: usize>(
    task: &Task,
    padded: &[f32],
    gradient: &[f32],
    sums: &mut [f32],
) {
    for to in (0..task.outs).step_by(V * S::LANES) {
        for from in (0..task.run).step_by(R) {
            let rows = R.min(task.run - from);
            // SAFETY: compiled for the instructions of `S`.
            let mut tile = unsafe { [[S::splat(0.0); V]; R] };
            for (tile, sums) in tile.iter_mut().zip(sums[from * LANES..].chunks_exact(LANES)) {
                load(tile, &sums[to..to + V * S::LANES]);
            }
            // SAFETY: a tile reads at most R ≤ SPARE inputs from `from` < run on, and V vectors from `to` < LANES on:
            // `to` and LANES are both multiples of V vectors.
            unsafe {
                if task.gathered {
                    products::<S, V, R, true>(task, padded, gradient, from, to, &mut tile);
                } else {
                    products::<S, V, R, false>(task, padded, gradient, from, to, &mut tile);
                }
            }
            let stored = sums[from * LANES..].chunks_exact_mut(LANES).take(rows);
            for (tile, sums) in tile.iter().zip(stored) {
                store(tile, &mut sums[to..to + V * S::LANES]);
            }
        }
    }
}

/// One tile over all pixels, in registers.
///
/// # Safety
/// For each pixel, `padded` reaches to its first input + the task's offset + `from` + `R` and
/// `gradient` to its place (LANES after the previous one if `GATHERED`) + `to` + `V` vectors.
#[inline(always)]
unsafe fn products<S: Simd, const V: usize, const R: usize, const GATHERED: bool>(
    task: &Task,
    padded: &[f32],
    gradient: &[f32],
    from: usize,
    to: usize,
    into: &mut [[S; V]; R],
) {
    // SAFETY: by this function's contract.
    unsafe {
        let inputs = padded.as_ptr().add(task.offset + from);
        let gradients = gradient.as_ptr().add(to);
        let mut sums = *into;
        let mut next = gradients;
        for &(input, g) in task.pixels {
            let input = inputs.add(input);
            let g = if GATHERED { next } else { gradients.add(g) };
            next = next.wrapping_add(LANES);
            let vectors: [S; V] = load_row(g);
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = S::splat(*input.add(r));
                for (sum, &g) in sums.iter_mut().zip(&vectors) {
                    *sum = x.mul_add(g, *sum);
                }
            }
        }
        *into = sums;
    }
}
