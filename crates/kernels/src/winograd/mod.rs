//! Winograd's convolution F(2×2, 3×3) (Lavin & Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016): a tile of 2×2 outputs costs 16 products per channel instead of 36.
//!
//! Each 4×4 patch of the input is transformed to 16 values per channel; for each of the 16 places, all
//! tiles of a group are multiplied with the transformed weights of that place, a 1×1 convolution; and
//! the 16 products of a tile are transformed to its outputs. With this small tile the transforms only
//! add, subtract and halve, so results are about as exact as those of the direct sum.

mod tiles;
mod transform;

use self::tiles::{PLACES, Tiles};
use self::transform::{Products, back, patches, transform_weights};
use crate::fill::{Slot, places};
use crate::gather::{Axis, Gather, Inputs, Padded, Weights, lanes};
use crate::geometry::Geometry;
use crate::pairs::{Format, pair, pair_channels};
use crate::path::Path;
use crate::scratch::{Aligned, Scratch, scratch};

/// Below this many channels, the transforms cost more than the products saved.
const LEAST: usize = if cfg!(miri) { 16 } else { 64 };
/// Above this many weights per place, reading them for every group of images may cost more than the
/// products saved; up to this number, measurements show that it does not.
const MOST: usize = 1 << 18;
/// Extra floats between the values of two places, so that the 16 places do not all compete for the
/// same cache lines.
const SKEW: usize = 16;

/// Whether this convolution is faster with Winograd's algorithm.
pub(crate) fn takes(g: &Geometry) -> bool {
    let whole = |channels: usize| channels.is_multiple_of(16) && channels >= LEAST;
    (g.kernel, g.stride) == (3, 1)
        && g.height.is_multiple_of(2)
        && g.width.is_multiple_of(2)
        && whole(g.channels)
        && whole(g.out)
        && g.channels * g.out <= MOST
}

/// A convolution of groups of padded images with its transformed weights.
pub(crate) struct Winograd {
    tiles: Tiles,
    /// The product at one place: `[tile][in]` times `[in][out]`.
    product: Gather,
    /// `[block of lanes][place][in, in places of the format][lane]`.
    weights: Aligned,
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

impl Winograd {
    /// For groups of `group` images with the layout `padded`, and `out` output channels.
    pub fn new(path: Path, padded: Padded, out: usize, group: usize, kernels: Kernels) -> Self {
        let Kernels { values, from, to, flip, format } = kernels;
        let tiles = Tiles::new(padded);
        let channels = padded.inner[2];
        let count = tiles.count();
        let line = Padded { inner: [1, count, channels], pad: [(0, 0); 2] };
        let (one, all) = (Axis::forward(1, 1, 1, 1, 0), Axis::forward(count, count, 1, 1, 0));
        let product = Gather::new(line, &one, &all, [count, count, out], group, format);
        let lanes = lanes(out);
        let places = format.places(channels);
        let block = PLACES * places * lanes;
        let weights = Aligned::filled(out.div_ceil(lanes) * block, block, |b, filling| {
            let outs = lanes.min(out - b * lanes);
            filling.rest(|weights| {
                assert_eq!(weights.len(), block);
                let transformed = |i: usize| {
                    let mut taps = [[0.0f32; 32]; 9];
                    for lane in 0..outs {
                        let kernel = &values[i * from + (b * lanes + lane) * to..][..9];
                        for (t, &w) in kernel.iter().enumerate() {
                            taps[if flip { 8 - t } else { t }][lane] = w;
                        }
                    }
                    let mut places = [[0.0f32; 32]; PLACES];
                    transform_weights(path, &taps, &mut places);
                    places
                };
                for i in 0..places {
                    let all = match format {
                        Format::Floats => transformed(i),
                        Format::Pairs => {
                            let (mut all, second) = (transformed(2 * i), transformed(2 * i + 1));
                            let both = all.as_flattened_mut().iter_mut().zip(second.as_flattened());
                            both.for_each(|(first, &second)| *first = pair(*first, second));
                            all
                        }
                    };
                    for (place, values) in all.iter().enumerate() {
                        weights[(place * places + i) * lanes..][..lanes]
                            .write_copy_of_slice(&values[..lanes]);
                    }
                }
                // SAFETY: each of the PLACES · places runs of `lanes` floats that make up the block was written: the
                // run (place, i) for every place and every i.
                unsafe { weights.assume_init_mut() }
            });
        });
        Self { tiles, product, weights, channels, out, format }
    }

    /// Writes (or with `add`, adds to) the outputs of `images` images.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn run(&self, path: Path, padded: &[f32], output: &mut [f32], images: usize, add: bool) {
        let output = &mut output[..images * self.image()];
        let (values, step) = self.products(path, padded, images);
        let products = Products { values: &values, step };
        // SAFETY: only floats are stored, and `output` already holds floats.
        unsafe { back(path, &self.tiles, self.out, products, places(output), add) };
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
        let (values, step) = self.products(path, padded, images);
        let products = Products { values: &values, step };
        // SAFETY: without `add`, `output` need not hold floats.
        unsafe { back(path, &self.tiles, self.out, products, output, false) };
        // SAFETY: `back` has stored all 2 × 2 pixels of every tile of every image: all of `output`.
        unsafe { output.assume_init_mut() }
    }

    /// Floats of an output image.
    fn image(&self) -> usize {
        4 * self.tiles.count() * self.out
    }

    /// The products of all tiles, and the distance between those of two places.
    fn products(&self, path: Path, padded: &[f32], images: usize) -> (Scratch, usize) {
        let Self { tiles, channels, out, .. } = *self;
        let count = images * tiles.count();
        let (values, products) = (count * channels + SKEW, count * out + SKEW);
        let mut v = scratch(PLACES * values);
        let mut m = scratch(PLACES * products);
        patches(path, &tiles, padded, images, &mut v, values);
        let block = self.format.places(channels) * lanes(out);
        let mut pairs = scratch(count * channels / 2);
        for (place, (v, m)) in v.chunks(values).zip(m.chunks_mut(products)).enumerate() {
            let weights =
                Weights { packed: &self.weights[place * block..], stride: PLACES * block };
            let padded = match self.format {
                Format::Floats => v,
                Format::Pairs => {
                    pair_channels(path, &v[..count * channels], channels, &mut pairs);
                    &pairs
                }
            };
            self.product.run(path, Inputs { padded, weights }, m, images, false);
        }
        (m, products)
    }
}
