//! The sizes of a convolution, and the parts of a batch in which it is computed.

use crate::gather::{Axis, Padded};
use crate::pairs::Format;

/// Minimum number of output pixels in a group of images, so that each slab of weights read serves many.
const GROUP_PIXELS: usize = if cfg!(miri) { 8 } else { 128 };
/// Maximum number of parts of a batch, each of which sums weight gradients of its own.
const PARTS: usize = 16;

/// The sizes of a convolution, padded by half the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub out: usize,
    pub kernel: usize,
    pub stride: usize,
    /// The number format of the products.
    pub format: Format,
}

impl Geometry {
    pub fn out_height(&self) -> usize {
        self.height.div_ceil(self.stride)
    }

    pub fn out_width(&self) -> usize {
        self.width.div_ceil(self.stride)
    }

    /// Floats in an input image.
    pub fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Floats in an output image.
    pub fn result(&self) -> usize {
        self.out_height() * self.out_width() * self.out
    }

    pub fn weights(&self) -> usize {
        self.kernel * self.kernel * self.channels * self.out
    }

    /// Images in a group: all groups but the last have as many, and the last has at most as many.
    pub fn group(&self) -> usize {
        let least = GROUP_PIXELS.div_ceil(self.out_height() * self.out_width());
        self.batch.div_ceil((self.batch / least).max(1))
    }

    /// Images in a part of the batch for the weight gradient: whole groups. It depends only on the sizes,
    /// and the parts are summed in order, so the number of threads does not change the result.
    pub fn part(&self) -> usize {
        self.batch.div_ceil(PARTS).next_multiple_of(self.group())
    }

    /// Zeros that fill the last of Winograd's tiles, which are 2 × 2 pixels, along a side of this length.
    fn half_tile(&self, len: usize) -> usize {
        if (self.kernel, self.stride) == (3, 1) { len % 2 } else { 0 }
    }

    /// The layout of the padded images, with half the kernel of zeros before.
    pub fn padded(&self) -> Padded {
        let half = self.kernel / 2;
        let axis = |len, out| {
            let (before, after) = Axis::forward(len, out, self.kernel, self.stride, half).pad;
            (before, after + self.half_tile(len))
        };
        Padded {
            inner: [self.height, self.width, self.channels],
            pad: [axis(self.height, self.out_height()), axis(self.width, self.out_width())],
        }
    }

    /// The layout of the padded output gradient, for the input gradient at every residue.
    pub fn padded_gradient(&self) -> Padded {
        let pad = |len, out| {
            let (before, after) = (0..self.stride.min(len))
                .map(|r| Axis::backward(len, out, self.kernel, self.stride, r, self.kernel).pad)
                .fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)));
            (before, after + self.half_tile(len))
        };
        Padded {
            inner: [self.out_height(), self.out_width(), self.out],
            pad: [pad(self.height, self.out_height()), pad(self.width, self.out_width())],
        }
    }
}
