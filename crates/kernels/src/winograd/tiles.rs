//! The tiles that images are cut into, and the parts in which they are transformed.

use std::ops::Range;

use crate::gather::Padded;

/// Places of a transformed tile.
pub(super) const PLACES: usize = 16;
/// Extra floats between the values of two places, so that the 16 places do not all compete for the
/// same cache lines.
const SKEW: usize = 16;
/// Tiles in a part: with 64 channels, their values at all places take a quarter of a megabyte, a part of the L2
/// cache.
const PART: usize = if cfg!(miri) { 2 } else { 64 };

/// Where the tiles of an image lie: 2 × 2 pixels each. Along an odd side, the last tile reaches a pixel past the
/// image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles {
    pub padded: Padded,
    /// Offset of the first patch, which starts one pixel above and to the left of its tile.
    pub origin: usize,
    /// Rows and columns of tiles.
    pub rows: usize,
    pub columns: usize,
}

impl Tiles {
    /// The tiles of images whose first output reads from one pixel before them.
    pub fn new(padded: Padded) -> Self {
        let [height, width, channels] = padded.inner;
        let [(top, _), (left, _)] = padded.pad;
        let origin = (top - 1) * padded.row() + (left - 1) * channels;
        Self { padded, origin, rows: height.div_ceil(2), columns: width.div_ceil(2) }
    }

    /// The layout of the values of a row of tiles at one place: a tile to a row, so that two that follow each other make
    /// a pair of rows.
    pub fn line(&self) -> Padded {
        Padded { inner: [self.columns, 1, self.padded.inner[2]], pad: [(0, 0); 2] }
    }

    /// Rows of tiles in a part of a group of `images` images. Rows are counted over all images.
    pub fn part(&self, images: usize) -> usize {
        (PART / self.columns).clamp(1, (images * self.rows).max(1))
    }

    /// The parts of `images` images.
    pub fn parts(&self, images: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, part) = (images * self.rows, self.part(images));
        (0..rows).step_by(part).map(move |first| first..rows.min(first + part))
    }

    /// Distance between the values of two places, for `rows` rows of tiles with this many channels.
    pub fn step(&self, rows: usize, channels: usize) -> usize {
        rows * self.columns * channels + SKEW
    }
}
