//! The weight gradient of Winograd's convolution: at each place, the sum of the outer products of all tiles'
//! transformed inputs and transformed output gradients; the sums are transformed to the taps.

use std::ops::Range;

use super::tiles::{PLACES, Tiles};
use super::transform::{Spread, gather_weights};
use crate::fill::fill;
use crate::gather::Padded;
use crate::outer::{Group, LANES, Outer, SPARE, total};
use crate::pairs::{Format, pair_image, pair_rows};
use crate::path::Path;

/// The plan of a weight gradient.
pub(crate) struct WeightGradient {
    inputs: Tiles,
    gradients: Tiles,
    /// The products at one place of a part.
    outer: Outer,
    channels: usize,
    out: usize,
    /// The number format of the products.
    format: Format,
}

impl WeightGradient {
    /// For groups of at most `group` images of layout `input`, and output gradients of layout `gradient`.
    pub fn new(input: Padded, gradient: Padded, group: usize, format: Format) -> Self {
        let [inputs, gradients] = [input, gradient].map(Tiles::new);
        let [from, to] = [&inputs, &gradients].map(Tiles::line);
        let outer = Outer::new(from, 0, to, [1, 1], inputs.part(group), format);
        let (channels, out) = (input.inner[2], gradient.inner[2]);
        Self { inputs, gradients, outer, channels, out, format }
    }

    /// Floats in a chunk of sums, one place and block of output channels: `[in][LANES]`.
    pub fn chunk(&self) -> usize {
        self.outer.chunk()
    }

    /// Chunks of sums.
    pub fn chunks(&self) -> usize {
        PLACES * self.outer.chunks()
    }

    /// The parts of a group of `images` images: rows of tiles.
    pub fn parts(&self, images: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        self.inputs.parts(images)
    }

    /// Floats that the factors of a part of a group of `images` images take at most.
    pub fn factors(&self, images: usize) -> usize {
        self.split(self.inputs.part(images)).iter().map(|[_, room]| room).sum()
    }

    /// For inputs and gradients of a part: the distance between two places, and the room for all.
    fn split(&self, rows: usize) -> [[usize; 2]; 2] {
        [&self.inputs, &self.gradients].map(|tiles| {
            let step = tiles.step(rows, tiles.padded.inner[2]);
            [step, PLACES * step + SPARE]
        })
    }

    /// Writes the factors of a part of a group: its transformed inputs, then its transformed gradients.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn transform(&self, path: Path, group: Group, rows: Range<usize>, factors: &mut [f32]) {
        let [[step, room], [far, _]] = self.split(rows.len());
        let (inputs, gradients) = factors.split_at_mut(room);
        let (tiles, padded, values) = (&self.inputs, group.padded, &mut *inputs);
        Spread { tiles, padded, rows: rows.clone(), values, step }.patches(path);
        let (tiles, padded, values) = (&self.gradients, group.gradient, &mut *gradients);
        Spread { tiles, padded, rows: rows.clone(), values, step: far }.gradients(path);
        if self.format == Format::Floats {
            return;
        }
        for (values, step, channels) in [(inputs, step, self.channels), (gradients, far, self.out)]
        {
            let line = self.inputs.columns * channels;
            for place in values.chunks_exact_mut(step).take(PLACES) {
                for line in place[..rows.len() * line].chunks_exact_mut(line) {
                    for tiles in line.chunks_mut(2 * channels) {
                        match tiles.split_at_mut(channels) {
                            (last, []) => pair_image(path, last, channels, 1),
                            (first, second) => pair_rows(path, first, second),
                        }
                    }
                }
            }
        }
    }

    /// Adds the products of a part of `rows` rows of tiles to chunk `chunk` of the sums.
    ///
    /// # Panics
    /// If there is no such chunk, or a buffer has another length.
    pub fn add(&self, path: Path, factors: &[f32], rows: usize, chunk: usize, sums: &mut [f32]) {
        let (place, block) = (chunk / self.outer.chunks(), chunk % self.outer.chunks());
        let [[step, room], [far, _]] = self.split(rows);
        let (inputs, gradients) = factors.split_at(room);
        let (padded, gradient) = (&inputs[place * step..], &gradients[place * far..]);
        self.outer.run(path, Group { padded, gradient, images: rows }, block, sums);
    }

    /// Adds the sums of `parts` in order: the gradient of the weight `[out, in, 3, 3]`.
    pub fn reduce(&self, path: Path, parts: &mut [Vec<f32>]) -> Vec<f32> {
        let Some(total) = total(parts) else { return Vec::new() };
        let (blocks, each) = (self.outer.chunks(), self.channels * 9);
        let (weight, _) = fill(self.out * each, LANES * each, 0..blocks, |block, weight| {
            weight.rest(|weight| {
                let whole = weight.len().is_multiple_of(each);
                assert!(whole && weight.len() <= LANES * each, "the kernels of a block");
                for i in 0..self.channels {
                    let taps = self.taps(path, total, block, i);
                    for (lane, kernels) in weight.chunks_exact_mut(each).enumerate() {
                        for (to, tap) in kernels[i * 9..][..9].iter_mut().zip(&taps) {
                            to.write(tap[lane]);
                        }
                    }
                }
                // SAFETY: the kernels of each output channel were written, nine taps for each of the `channels` input
                // channels, and `weight` is a whole number of them.
                unsafe { weight.assume_init_mut() }
            });
        });
        weight
    }

    /// The taps of the kernels from input channel `i` to the output channels of a block, by the sums.
    fn taps(&self, path: Path, sums: &[f32], block: usize, i: usize) -> [[f32; LANES]; 9] {
        let mut places = [[0.0; LANES]; PLACES];
        for (place, values) in places.iter_mut().enumerate() {
            let chunk = place * self.outer.chunks() + block;
            values.copy_from_slice(&sums[chunk * self.outer.chunk() + i * LANES..][..LANES]);
        }
        let mut taps = [[0.0; LANES]; 9];
        gather_weights(path, &places, &mut taps);
        taps
    }
}
