//! The gather: each output pixel sums, over the rows of a kernel, runs of inputs at fixed offsets from
//! its base times a block of weights.
//!
//! In channels-last layout the taps of one kernel row lie side by side, so a 3×3 kernel is three runs
//! of 3 × channels floats. A tile of output pixels × output channels stays in registers over a slab of
//! weights small enough for the first-level cache; the slab serves all pixels of a group of images
//! before the next one is read.

use rayon::prelude::*;

use crate::path::Path;
use crate::scratch::Aligned;
use crate::simd::{Four, Simd};

/// Floats of weights in a slab: 36 kB.
const SLAB: usize = 9216;

/// Position and offsets of a gather along one axis.
pub(crate) struct Axis {
    /// Padded input positions of the outputs' bases.
    bases: Vec<usize>,
    /// Positions of the outputs.
    outs: Vec<usize>,
    /// Kernel indices in the order of their offsets, which are consecutive.
    kernel: Vec<usize>,
    /// Zeros needed before and after the input.
    pub pad: (usize, usize),
}

impl Axis {
    /// Forward: output o reads input `o · stride + k − half`. `before` zeros precede the input, at
    /// least half the kernel.
    pub fn forward(len: usize, out: usize, kernel: usize, stride: usize, before: usize) -> Self {
        let half = kernel / 2;
        let last = (out - 1) * stride + kernel - 1;
        Self {
            bases: (0..out).map(|o| o * stride + before - half).collect(),
            outs: (0..out).collect(),
            kernel: (0..kernel).collect(),
            pad: (half, (last + 1).saturating_sub(half + len)),
        }
    }

    /// Input gradient at the positions i ≡ `residue` (mod stride): i reads the output gradient at
    /// `(i + half − k) / stride` for each k where that is whole. `before` zeros precede the gradient,
    /// at least `pad.0`.
    pub fn backward(
        len: usize,
        out: usize,
        kernel: usize,
        stride: usize,
        residue: usize,
        before: usize,
    ) -> Self {
        let half = kernel / 2;
        let outs: Vec<usize> = (residue..len).step_by(stride).collect();
        // Falling k: rising offsets.
        let taps: Vec<usize> = (0..kernel)
            .rev()
            .filter(|k| (residue + half + stride * kernel - k).is_multiple_of(stride))
            .collect();
        let offset = |k: usize| (residue as i64 + half as i64 - k as i64) / stride as i64;
        let first = taps.first().map_or(0, |&k| offset(k));
        let last = taps.last().map_or(0, |&k| offset(k));
        let low = (-first).max(0) as usize;
        let end = outs.len() as i64 + last;
        let base = |t: usize| (t as i64 + before as i64 + first).max(0) as usize;
        Self {
            bases: (0..outs.len()).map(base).collect(),
            outs,
            kernel: taps,
            pad: (low, (end - out as i64).max(0) as usize),
        }
    }
}

/// A padded image, or a group of them: rows of channels with zeros around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Padded {
    /// Height, width and channels inside.
    pub inner: [usize; 3],
    /// Zeros before and after, for rows and columns.
    pub pad: [(usize, usize); 2],
}

impl Padded {
    /// Floats in a padded row.
    pub fn row(&self) -> usize {
        (self.inner[1] + self.pad[1].0 + self.pad[1].1) * self.inner[2]
    }

    /// Floats in an image.
    pub fn len(&self) -> usize {
        (self.inner[0] + self.pad[0].0 + self.pad[0].1) * self.row()
    }

    /// Fills padded images one after the other: `fill(image, y, row)` gives the rows inside.
    pub fn fill_group(&self, group: &mut [f32], mut fill: impl FnMut(usize, usize, &mut [f32])) {
        for (image, padded) in group.chunks_exact_mut(self.len()).enumerate() {
            self.fill(padded, |y, row| fill(image, y, row));
        }
    }

    /// Fills one padded image: zeros around, `fill(y, row)` for each row inside.
    fn fill(&self, image: &mut [f32], mut fill: impl FnMut(usize, &mut [f32])) {
        let [height, width, channels] = self.inner;
        let [(top, _), (left, _)] = self.pad;
        let row = self.row();
        let (start, inside) = (left * channels, width * channels);
        image[..top * row].fill(0.0);
        for (y, padded) in image[top * row..].chunks_exact_mut(row).take(height).enumerate() {
            padded[..start].fill(0.0);
            fill(y, &mut padded[start..start + inside]);
            padded[start + inside..].fill(0.0);
        }
        image[(top + height) * row..self.len()].fill(0.0);
    }
}

/// A part of a kernel row: where its inputs start, relative to a base, and how many they are.
#[derive(Debug, Clone, Copy)]
struct Segment {
    offset: usize,
    len: usize,
}

/// A gather over groups of `group` images.
pub(crate) struct Gather {
    /// Offset of each output's base in the padded group, in floats.
    bases: Vec<usize>,
    /// Offset of each output pixel in the group's output, in floats.
    outs: Vec<usize>,
    /// Rows of the kernel with the columns in each, in the order of the weights.
    kernel: (Vec<usize>, Vec<usize>),
    /// The segments, slab by slab.
    slabs: Vec<Vec<Segment>>,
    /// Pixels of one image that this gather makes.
    pixels: usize,
    channels: usize,
    out_channels: usize,
    /// Largest offset plus length: how far from a base a tile reads.
    reach: usize,
    /// Inputs of all slabs.
    inputs: usize,
}

/// Output channels that lie side by side in packed weights.
pub(crate) fn lanes(out_channels: usize) -> usize {
    if out_channels <= 16 { 16 } else { 32 }
}

impl Gather {
    /// `out` is the output's width in pixels, its pixels per image and its channels.
    pub fn new(input: Padded, rows: &Axis, columns: &Axis, out: [usize; 3], group: usize) -> Self {
        let channels = input.inner[2];
        let [out_width, out_pixels, out_channels] = out;
        let (mut bases, mut outs) = (Vec::new(), Vec::new());
        for image in 0..group {
            for (&base_y, &y) in rows.bases.iter().zip(&rows.outs) {
                for (&base_x, &x) in columns.bases.iter().zip(&columns.outs) {
                    bases.push(image * input.len() + base_y * input.row() + base_x * channels);
                    outs.push((image * out_pixels + y * out_width + x) * out_channels);
                }
            }
        }
        let run = columns.kernel.len() * channels;
        let most = SLAB / lanes(out_channels);
        let mut slabs: Vec<Vec<Segment>> = Vec::new();
        let mut room = 0;
        for row in 0..rows.kernel.len() {
            for start in (0..run).step_by(most) {
                let segment =
                    Segment { offset: row * input.row() + start, len: most.min(run - start) };
                if room < segment.len {
                    slabs.push(Vec::new());
                    room = most;
                }
                room -= segment.len;
                if let Some(slab) = slabs.last_mut() {
                    slab.push(segment);
                }
            }
        }
        let reach = slabs.iter().flatten().map(|s| s.offset + s.len).max().unwrap_or(0);
        Self {
            reach,
            inputs: rows.kernel.len() * run,
            pixels: rows.outs.len() * columns.outs.len(),
            bases,
            outs,
            kernel: (rows.kernel.clone(), columns.kernel.clone()),
            slabs,
            channels,
            out_channels,
        }
    }

    /// Weights in the order they are read, `[block of lanes][row][column][input channel][lane]`, zero
    /// where there is no such output channel. The weight of kernel position (y, x) from input channel
    /// i to output channel o is `weight[i · from + o · to + y · kernel + x]`.
    pub fn pack(&self, weight: &[f32], kernel: usize, from: usize, to: usize) -> Aligned {
        let lanes = lanes(self.out_channels);
        let (rows, columns) = &self.kernel;
        let block = self.inputs * lanes;
        let len = self.out_channels.div_ceil(lanes) * block;
        if block == 0 {
            return Aligned::zeros(0);
        }
        let whole = self.out_channels.is_multiple_of(lanes);
        let mut packed = if whole { Aligned::unset(len) } else { Aligned::zeros(len) };
        let taps: Vec<usize> =
            rows.iter().flat_map(|&ky| columns.iter().map(move |&kx| ky * kernel + kx)).collect();
        /// Input channels at a time, so that what is read stays in the first-level cache.
        const CHANNELS: usize = 16;
        packed.par_chunks_exact_mut(block).enumerate().for_each(|(b, packed)| {
            let outs = lanes.min(self.out_channels - b * lanes);
            let weight = &weight[b * lanes * to..];
            for start in (0..self.channels).step_by(CHANNELS) {
                let end = self.channels.min(start + CHANNELS);
                for (t, &tap) in taps.iter().enumerate() {
                    let places = &mut packed[(t * self.channels + start) * lanes..];
                    for (i, place) in (start..end).zip(places.chunks_exact_mut(lanes)) {
                        let from = &weight[i * from + tap..][..(outs - 1) * to + 1];
                        for (place, &w) in place.iter_mut().zip(from.iter().step_by(to)) {
                            *place = w;
                        }
                    }
                }
            }
        });
        packed
    }

    /// Floats of weights in a block of lanes.
    pub fn block(&self) -> usize {
        self.inputs * lanes(self.out_channels)
    }

    /// Writes (or with `add`, adds to) the outputs of this gather for `images` images.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn run(
        &self,
        path: Path,
        padded: &[f32],
        weights: Weights,
        output: &mut [f32],
        images: usize,
        add: bool,
    ) {
        let count = images * self.pixels;
        if self.slabs.is_empty() {
            // No kernel position reaches these pixels.
            for &out in self.outs[..count].iter().filter(|_| !add) {
                output[out..out + self.out_channels].fill(0.0);
            }
            return;
        }
        let last = self.bases[..count].iter().max().copied().unwrap_or(0);
        assert!(last + self.reach <= padded.len(), "a tile reads past its images");
        let blocks = self.out_channels.div_ceil(lanes(self.out_channels));
        let furthest = (blocks - 1) * weights.stride + self.block();
        let fits = weights.stride >= self.block() && furthest <= weights.packed.len();
        assert!(fits, "weights of another gather");
        gather(path, self, padded, weights, output, count, add);
    }
}

/// Packed weights, block by block.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub packed: &'a [f32],
    /// Floats from block to block.
    pub stride: usize,
}

/// Compiled for each path. Tiles are as large as the path's registers hold.
fn gather(
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
