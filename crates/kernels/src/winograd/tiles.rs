//! The tiles that an image is cut into.

use crate::gather::Padded;

/// Places of a transformed tile.
pub(super) const PLACES: usize = 16;

/// Where the tiles of an image lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles {
    pub padded: Padded,
    /// Offset of the first patch.
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
        Self { padded, origin, rows: height / 2, columns: width / 2 }
    }

    /// Tiles of an image.
    pub fn count(&self) -> usize {
        self.rows * self.columns
    }
}
