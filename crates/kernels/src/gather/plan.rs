//! The plan of a gather: what it reads and where it writes, computed once for all groups of images.

use super::axis::{Axis, Padded};
use crate::fill::zeros;
use crate::pairs::{Format, pair};
use crate::scratch::Aligned;

/// Floats of weights in a slab: 36 kB.
const SLAB: usize = if cfg!(miri) { 1024 } else { 9216 };

/// A part of a kernel row: where its inputs start, relative to a base, and how many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub offset: usize,
    pub len: usize,
}

/// A gather over groups of `group` images.
pub(crate) struct Gather {
    /// Offset of each output's base in the padded group, in floats.
    pub(super) bases: Vec<usize>,
    /// Offset of each output pixel in the group's output, in floats.
    pub(super) outs: Vec<usize>,
    /// Rows of the kernel with the columns in each, in the order of the weights.
    kernel: (Vec<usize>, Vec<usize>),
    /// The segments, slab by slab.
    pub(super) slabs: Vec<Vec<Segment>>,
    /// Pixels of one image that this gather computes.
    pub(super) pixels: usize,
    channels: usize,
    /// The format of the inputs and weights.
    pub(super) format: Format,
    pub(super) out_channels: usize,
    /// Largest offset plus length: how far from a base a tile reads.
    reach: usize,
    /// Number of inputs in all slabs.
    inputs: usize,
    /// Whether it computes every pixel of its images, in order.
    pub(super) whole: bool,
}

/// Output channels that lie side by side in packed weights.
pub(crate) fn lanes(out_channels: usize) -> usize {
    if out_channels <= 16 { 16 } else { 32 }
}

impl Gather {
    /// `out` is the output's width in pixels, its pixels per image and its channels. Images of layout `input` are
    /// read with their channels in `format`.
    pub fn new(
        input: Padded,
        rows: &Axis,
        columns: &Axis,
        out: [usize; 3],
        group: usize,
        format: Format,
    ) -> Self {
        let channels = input.inner[2];
        let input = input.places(format);
        let places = input.inner[2];
        let [out_width, out_pixels, out_channels] = out;
        let (mut bases, mut outs) = (Vec::new(), Vec::new());
        for image in 0..group {
            for (&base_y, &y) in rows.bases.iter().zip(&rows.outs) {
                for (&base_x, &x) in columns.bases.iter().zip(&columns.outs) {
                    bases.push(image * input.len() + base_y * input.row() + base_x * places);
                    outs.push((image * out_pixels + y * out_width + x) * out_channels);
                }
            }
        }
        let run = columns.kernel.len() * places;
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
        let whole = outs.len() == group * out_pixels
            && outs.iter().enumerate().all(|(i, &at)| at == i * out_channels);
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
            format,
            out_channels,
            whole,
        }
    }

    /// Packs weights in the order they are read, `[block of lanes][row][column][place of input channels][lane]`,
    /// with zeros for channels that do not exist. The weight of kernel position (y, x) from input channel
    /// i to output channel o is `weight[i · from + o · to + y · kernel + x]`.
    pub fn pack(&self, weight: &[f32], kernel: usize, from: usize, to: usize) -> Aligned {
        let lanes = lanes(self.out_channels);
        let (rows, columns) = &self.kernel;
        let block = self.inputs * lanes;
        let len = self.out_channels.div_ceil(lanes) * block;
        if block == 0 {
            return Aligned::zeros(0);
        }
        let taps: Vec<usize> =
            rows.iter().flat_map(|&ky| columns.iter().map(move |&kx| ky * kernel + kx)).collect();
        /// Input channels at a time, so that the weights read stay in the L1 cache.
        const CHANNELS: usize = 16;
        let all = self.format.places(self.channels);
        Aligned::filled(len, block, |b, packed| {
            let outs = lanes.min(self.out_channels - b * lanes);
            let weight = &weight[b * lanes * to..];
            let weights = |i: usize, tap: usize| {
                weight[i * from + tap..][..(outs - 1) * to + 1].iter().step_by(to)
            };
            let packed = packed.rest(zeros);
            for start in (0..all).step_by(CHANNELS) {
                let end = all.min(start + CHANNELS);
                for (t, &tap) in taps.iter().enumerate() {
                    let places = &mut packed[(t * all + start) * lanes..];
                    for (i, place) in (start..end).zip(places.chunks_exact_mut(lanes)) {
                        match self.format {
                            Format::Floats => {
                                place.iter_mut().zip(weights(i, tap)).for_each(|(to, &w)| *to = w);
                            }
                            Format::Pairs => {
                                let last = 2 * i + 1 == self.channels;
                                let second = if last { 2 * i } else { 2 * i + 1 };
                                let both = weights(2 * i, tap).zip(weights(second, tap));
                                for (to, (&first, &second)) in place.iter_mut().zip(both) {
                                    *to = pair(first, if last { 0.0 } else { second });
                                }
                            }
                        }
                    }
                }
            }
        })
    }

    /// The format of the inputs and weights.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Floats of weights in a block of lanes.
    pub fn block(&self) -> usize {
        self.inputs * lanes(self.out_channels)
    }

    /// # Panics
    /// If the tiles of the first `count` pixels would read past `padded` or `weights`.
    pub(super) fn check(&self, Inputs { padded, weights }: Inputs, count: usize) {
        let last = self.bases[..count].iter().max().copied().unwrap_or(0);
        assert!(last + self.reach <= padded.len(), "a tile reads past its images");
        let blocks = self.out_channels.div_ceil(lanes(self.out_channels));
        let furthest = (blocks - 1) * weights.stride + self.block();
        let fits = weights.stride >= self.block() && furthest <= weights.packed.len();
        assert!(fits, "weights of another gather");
    }
}

/// What a gather reads.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// A group of padded images.
    pub padded: &'a [f32],
    pub weights: Weights<'a>,
}

/// Packed weights, block by block.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub packed: &'a [f32],
    /// Distance from block to block, in floats.
    pub stride: usize,
}
