//! Where a convolution reads: positions along one axis, and zero-padded images.

use crate::pairs::Format;

/// Positions and offsets of a gather along one axis.
pub(crate) struct Axis {
    /// Padded input positions of the outputs' bases.
    pub(super) bases: Vec<usize>,
    /// Positions of the outputs.
    pub(super) outs: Vec<usize>,
    /// Kernel indices in the order of their offsets, which are consecutive.
    pub(super) kernel: Vec<usize>,
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
    /// `(i + half − k) / stride` for each k that makes it an integer. `before` zeros precede the gradient,
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
        // Descending k gives ascending offsets.
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

/// The layout of a zero-padded image, or of a group of them: rows of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Padded {
    /// Height, width and channels without the padding.
    pub inner: [usize; 3],
    /// Zeros before and after, for rows and columns.
    pub pad: [(usize, usize); 2],
}

impl Padded {
    /// The same images with their channels stored in `format`.
    pub fn places(self, format: Format) -> Self {
        let [height, width, channels] = self.inner;
        Self { inner: [height, width, format.places(channels)], ..self }
    }

    /// Floats in a padded row.
    pub fn row(&self) -> usize {
        (self.inner[1] + self.pad[1].0 + self.pad[1].1) * self.inner[2]
    }

    /// Floats in an image.
    pub fn len(&self) -> usize {
        (self.inner[0] + self.pad[0].0 + self.pad[0].1) * self.row()
    }

    /// Fills padded images one after the other: `fill(image, y, row)` writes the inner rows.
    pub fn fill_group(&self, group: &mut [f32], mut fill: impl FnMut(usize, usize, &mut [f32])) {
        for (image, padded) in group.chunks_exact_mut(self.len()).enumerate() {
            self.fill(padded, |y, row| fill(image, y, row));
        }
    }

    /// Fills one padded image: zeros in the padding, `fill(y, row)` for each inner row.
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
