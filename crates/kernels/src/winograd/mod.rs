//! Winograd's convolution F(2×2, 3×3) (Lavin & Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016): a tile of 2×2 outputs costs 16 products per channel instead of 36.
//!
//! Each 4×4 patch of the input is transformed to 16 values per channel; for each of the 16 places, some
//! tiles of a group are multiplied with the transformed weights of that place, a 1×1 convolution; and
//! the 16 products of a tile are transformed to its outputs. With this small tile the transforms only
//! add, subtract and halve, so results are about as exact as those of the direct sum. The weight
//! gradient (`gradient`) multiplies the transformed patches with transformed output gradients.

use std::ops::Range;

use rayon::prelude::*;

mod gradient;
mod tiles;
mod transform;

pub(crate) use self::gradient::WeightGradient;
use self::tiles::{PLACES, Tiles};
use self::transform::{Back, Spread, transform_weights};
use crate::fill::{Slot, places};
use crate::gather::{Axis, Gather, Inputs, Padded, Weights, lanes};
use crate::geometry::Geometry;
use crate::pairs::{Format, pair, pair_channels};
use crate::path::Path;
use crate::scratch::{Scratch, scratch};

/// Below this many channels, the transforms cost more than the products saved, for products of floats and of pairs.
const LEAST: [usize; 2] = if cfg!(miri) { [16, 16] } else { [32, 64] };
/// With fewer tiles, an image is mostly surrounded by zeros, and rounding errors are larger than those of the direct
/// sum: for a single tile 1.4 times, from four tiles on 0.9 to 1.1 times (root mean square, 32 channels).
const FEWEST: usize = 4;
/// Above this many weights per place, reading them for every part of a group may cost more than the
/// products saved; up to this number, measurements show that it does not.
const MOST: usize = 1 << 18;

/// Input channels whose weights are transformed together, so that cache lines are read and written whole. Divides every
/// number of channels that [`takes`] takes.
const TOGETHER: usize = 8;

/// Whether this convolution is faster with Winograd's algorithm, and as exact as the direct sum.
pub(crate) fn takes(g: &Geometry) -> bool {
    let least = LEAST[usize::from(g.format == Format::Pairs)];
    let whole = |channels: usize| channels.is_multiple_of(16) && channels >= least;
    // Tiles that reach past the image cost as much as others, and the transforms cost a part of what is saved.
    let tiles = g.height.div_ceil(2) * g.width.div_ceil(2);
    (g.kernel, g.stride) == (3, 1)
        && tiles >= FEWEST
        && 3 * PLACES * tiles <= 2 * 9 * g.height * g.width
        && whole(g.channels)
        && whole(g.out)
        && g.channels * g.out <= MOST
}

/// A convolution of groups of padded images with its transformed weights.
pub(crate) struct Winograd {
    tiles: Tiles,
    /// The product at one place, for rows of tiles: `[tile][in]` times `[in][out]`.
    product: Gather,
    /// `[block of lanes][place][in, in places of the format][lane]`.
    weights: Scratch,
    channels: usize,
    out: usize,
    /// The number format of the products at the places.
    format: Format,
}

/// The weights of 3×3 kernels: `values[i · from + o · to + 3 · y + x]` is the weight of kernel position
/// (y, x), or with `flip` of (2 − y, 2 − x), from input channel i to output channel o.
#[derive(Clone, Copy)]
pub(crate) struct Kernels<'a> {
    pub values: &'a [f32],
    pub from: usize,
    pub to: usize,
    pub flip: bool,
    pub format: Format,
}

impl Kernels<'_> {
    /// The taps of the kernels from [`TOGETHER`] input channels, `start` and those after it, to the output channels
    /// `outs`.
    fn read(&self, start: usize, outs: Range<usize>, taps: &mut [[[f32; 32]; 9]; TOGETHER]) {
        for (lane, o) in outs.enumerate() {
            for (i, taps) in (start..).zip(&mut *taps) {
                let kernel = &self.values[i * self.from + o * self.to..][..9];
                for (t, &w) in kernel.iter().enumerate() {
                    taps[if self.flip { 8 - t } else { t }][lane] = w;
                }
            }
        }
    }
}

/// Pairs the values of neighbouring input channels, in place of those of the first half.
fn pair_inputs(all: &mut [[[f32; 32]; PLACES]; TOGETHER]) {
    for to in 0..TOGETHER / 2 {
        let (first, second) = (all[2 * to], all[2 * to + 1]);
        let both = first.as_flattened().iter().zip(second.as_flattened());
        let places = all[to].as_flattened_mut().iter_mut();
        places.zip(both).for_each(|(place, (&first, &second))| *place = pair(first, second));
    }
}

impl Winograd {
    /// For groups of `group` images with the layout `padded`, and `out` output channels.
    pub fn new(path: Path, padded: Padded, out: usize, group: usize, kernels: Kernels) -> Self {
        let format = kernels.format;
        let tiles = Tiles::new(padded);
        let channels = padded.inner[2];
        assert!(channels.is_multiple_of(TOGETHER), "{channels} channels");
        let count = tiles.columns;
        let (one, all) = (Axis::forward(1, 1, 1, 1, 0), Axis::forward(count, count, 1, 1, 0));
        let (line, most) = (tiles.line(), tiles.part(group));
        let product = Gather::new(line, &all, &one, [1, count, out], most, format);
        let lanes = lanes(out);
        let apart = product.block();
        let block = PLACES * apart;
        let mut weights = scratch(out.div_ceil(lanes) * block);
        weights.par_chunks_mut(block).enumerate().for_each(|(b, weights)| {
            let (mut taps, mut all) = ([[[0.0; 32]; 9]; TOGETHER], [[[0.0; 32]; PLACES]; TOGETHER]);
            for start in (0..channels).step_by(TOGETHER) {
                kernels.read(start, b * lanes..out.min((b + 1) * lanes), &mut taps);
                for (taps, values) in taps.iter().zip(&mut all) {
                    transform_weights(path, taps, values);
                }
                if format == Format::Pairs {
                    pair_inputs(&mut all);
                }
                let first = format.places(start);
                for (place, weights) in weights.chunks_exact_mut(apart).enumerate() {
                    let runs = weights[first * lanes..].chunks_exact_mut(lanes);
                    for (run, values) in runs.zip(&all[..format.places(TOGETHER)]) {
                        run.copy_from_slice(&values[place][..lanes]);
                    }
                }
            }
        });
        Self { tiles, product, weights, channels, out, format }
    }

    /// Writes (or with `add`, adds to) the outputs of `images` images.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn run(&self, path: Path, padded: &[f32], output: &mut [f32], images: usize, add: bool) {
        // SAFETY: only floats are stored, and `output` already holds floats.
        unsafe { self.parts(path, padded, places(output), images, add) };
    }

    /// Initialises `output`, which holds `images` images.
    ///
    /// # Panics
    /// If a buffer is too short, or `output` has another length.
    pub fn begin<'a>(
        &self,
        path: Path,
        padded: &[f32],
        output: &'a mut [Slot],
        images: usize,
    ) -> &'a mut [f32] {
        assert_eq!(output.len(), images * self.image(), "other images than the output's");
        // SAFETY: without `add`, `output` need not hold floats.
        unsafe { self.parts(path, padded, output, images, false) };
        // SAFETY: `parts` has stored the pixels of all tiles of every image: all of `output`.
        unsafe { output.assume_init_mut() }
    }

    /// Floats of an output image.
    fn image(&self) -> usize {
        let [height, width, _] = self.tiles.padded.inner;
        height * width * self.out
    }

    /// Stores the outputs of the first `images` images, part by part, so that the values of a part stay in the cache.
    ///
    /// # Safety
    /// With `add`, `output` holds floats.
    unsafe fn parts(
        &self,
        path: Path,
        padded: &[f32],
        output: &mut [Slot],
        images: usize,
        add: bool,
    ) {
        let Self { ref tiles, channels, out, .. } = *self;
        let most = tiles.part(images);
        let mut v = scratch(PLACES * tiles.step(most, channels));
        let mut m = scratch(PLACES * tiles.step(most, out));
        let mut pairs = scratch(most * tiles.columns * channels / 2);
        for rows in tiles.parts(images) {
            let [step, products] = [channels, out].map(|each| tiles.step(rows.len(), each));
            let count = rows.len() * tiles.columns * channels;
            Spread { tiles, padded, rows: rows.clone(), values: &mut v, step }.patches(path);
            let places = v.chunks(step).zip(m.chunks_mut(products)).take(PLACES);
            for (place, (v, m)) in places.enumerate() {
                let packed = &self.weights[place * self.product.block()..];
                let weights = Weights { packed, stride: PLACES * self.product.block() };
                let padded = match self.format {
                    Format::Floats => v,
                    Format::Pairs => {
                        pair_channels(path, &v[..count], channels, &mut pairs);
                        &pairs
                    }
                };
                self.product.run(path, Inputs { padded, weights }, m, rows.len(), false);
            }
            let back = Back { tiles, out, rows, values: &m, step: products, output, add };
            // SAFETY: the caller upholds the contract.
            unsafe { back.run(path) };
        }
    }
}
