//! The transforms of weights, patches, products and gradients, for each instruction path.

use std::ops::Range;

use super::tiles::{PLACES, Tiles};
use crate::fill::Slot;
use crate::path::{Path, kernel};
use crate::simd::{self, Simd, Vectors};

kernel!(
    /// G g Gᵀ of 32 kernels, by their nine taps.
    transform_weights(taps: &[[f32; 32]; 9], places: &mut [[f32; 32]; 16]) = transform_weights_body
);

#[inline(always)]
fn transform_weights_body<const FMA: bool>(taps: &[[f32; 32]; 9], places: &mut [[f32; 32]; 16]) {
    // G of three values: the first, half of all, half with the second negated, the last.
    let three = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    for lane in 0..32 {
        let columns: [[f32; 4]; 3] =
            std::array::from_fn(|x| three(taps[x][lane], taps[3 + x][lane], taps[6 + x][lane]));
        for y in 0..4 {
            let row = three(columns[0][y], columns[1][y], columns[2][y]);
            for (x, value) in row.into_iter().enumerate() {
                places[4 * y + x][lane] = value;
            }
        }
    }
}

kernel!(
    /// Gᵀ u G: the taps of 32 kernels' gradients, by the gradients of their 16 transformed values.
    gather_weights(places: &[[f32; 32]; 16], taps: &mut [[f32; 32]; 9]) = gather_weights_body
);

#[inline(always)]
fn gather_weights_body<const FMA: bool>(places: &[[f32; 32]; 16], taps: &mut [[f32; 32]; 9]) {
    // Gᵀ of four values.
    let four = |a: f32, b: f32, c: f32, d: f32| {
        let (sum, difference) = (0.5 * (b + c), 0.5 * (b - c));
        [a + sum, difference, sum + d]
    };
    for lane in 0..32 {
        let columns: [[f32; 3]; 4] = std::array::from_fn(|x| {
            let at = |y: usize| places[4 * y + x][lane];
            four(at(0), at(1), at(2), at(3))
        });
        for y in 0..3 {
            let row = four(columns[0][y], columns[1][y], columns[2][y], columns[3][y]);
            for (x, value) in row.into_iter().enumerate() {
                taps[3 * y + x][lane] = value;
            }
        }
    }
}

/// Writes the transformed values of tiles: those of place p of tile t from `values[p · step + t · channels]` on.
pub(super) struct Spread<'a> {
    pub tiles: &'a Tiles,
    /// Padded images.
    pub padded: &'a [f32],
    /// Rows of tiles, counted over all images.
    pub rows: Range<usize>,
    pub values: &'a mut [f32],
    pub step: usize,
}

impl Spread<'_> {
    /// Bᵀ d B of every patch d of 4×4 inputs.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn patches(self, path: Path) {
        self.check();
        // SAFETY: the sizes were checked.
        unsafe { simd::on(path, (self, Patch)) }
    }

    /// A g Aᵀ of every tile g of 2×2 output gradients.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub fn gradients(self, path: Path) {
        self.check();
        // SAFETY: the sizes were checked.
        unsafe { simd::on(path, (self, Gradient)) }
    }

    fn check(&self) {
        let Self { tiles, padded, rows, values, step } = self;
        let channels = tiles.padded.inner[2];
        assert!(channels.is_multiple_of(16), "whole vectors");
        let images = rows.end.div_ceil(tiles.rows);
        assert!(images * tiles.padded.len() <= padded.len(), "as many padded images");
        assert!(
            rows.len() * tiles.columns * channels <= *step && PLACES * step <= values.len(),
            "room for the values"
        );
        // The last patch reads 2 pixels past its tile.
        let furthest = tiles.origin
            + (2 * tiles.rows + 1) * tiles.padded.row()
            + (2 * tiles.columns + 2) * channels;
        assert!(furthest <= tiles.padded.len(), "patches lie in their image");
    }
}

/// How the values of a tile follow from its patch.
trait Transform {
    /// For a vector of channels of a patch at `from`, whose rows are `row` floats apart and its pixels `pixel`: writes
    /// the values, `step` floats apart, from `to` on.
    ///
    /// # Safety
    /// As the methods of [`Simd`]; `from` and `to` reach as far.
    unsafe fn tile<S: Simd>(from: *const f32, row: usize, pixel: usize, to: *mut f32, step: usize);
}

impl<T: Transform> Vectors for (Spread<'_>, T) {
    /// # Safety
    /// [`Spread::check`] has passed.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Spread { tiles, padded, rows, values, step } = self.0;
        let (channels, row) = (tiles.padded.inner[2], tiles.padded.row());
        let (from, mut to) = (padded.as_ptr(), values.as_mut_ptr());
        // SAFETY: the furthest reads and writes were checked.
        unsafe {
            for y in rows {
                let (image, y) = (y / tiles.rows, y % tiles.rows);
                let first = from.add(image * tiles.padded.len() + tiles.origin + 2 * y * row);
                for x in 0..tiles.columns {
                    for c in (0..channels).step_by(S::LANES) {
                        T::tile::<S>(
                            first.add(2 * x * channels + c),
                            row,
                            channels,
                            to.add(c),
                            step,
                        );
                    }
                    to = to.add(channels);
                }
            }
        }
    }
}

// Loops, not closures: a closure is not compiled for the path's instructions.

/// Bᵀ d B.
struct Patch;

impl Transform for Patch {
    #[inline(always)]
    unsafe fn tile<S: Simd>(from: *const f32, row: usize, pixel: usize, to: *mut f32, step: usize) {
        // SAFETY: the caller upholds the contract.
        unsafe {
            let mut d = [[S::splat(0.0); 4]; 4];
            for (r, d) in d.iter_mut().enumerate() {
                for (q, d) in d.iter_mut().enumerate() {
                    *d = S::load(from.add(r * row + q * pixel));
                }
            }
            let mut columns = d;
            for q in 0..4 {
                columns[q] = four(d[0][q], d[1][q], d[2][q], d[3][q]);
            }
            for r in 0..4 {
                let [a, b, c, d] = &columns;
                for (q, value) in four(a[r], b[r], c[r], d[r]).into_iter().enumerate() {
                    value.store(to.add((4 * r + q) * step));
                }
            }
        }
    }
}

/// Bᵀ of four values: the first minus the third, the sum and the difference of the middle ones, the
/// second minus the last.
///
/// # Safety
/// As the methods of [`Simd`].
#[inline(always)]
unsafe fn four<S: Simd>(a: S, b: S, c: S, d: S) -> [S; 4] {
    // SAFETY: the caller upholds the contract.
    unsafe { [a.sub(c), b.add(c), c.sub(b), b.sub(d)] }
}

/// A g Aᵀ of the tile in the middle of the patch.
struct Gradient;

impl Transform for Gradient {
    #[inline(always)]
    unsafe fn tile<S: Simd>(from: *const f32, row: usize, pixel: usize, to: *mut f32, step: usize) {
        // SAFETY: the caller upholds the contract.
        unsafe {
            let mut columns = [[S::splat(0.0); 4]; 2];
            for (q, column) in columns.iter_mut().enumerate() {
                let at = from.add(row + (1 + q) * pixel);
                *column = from_two(S::load(at), S::load(at.add(row)));
            }
            for r in 0..4 {
                let [a, b] = &columns;
                for (q, value) in from_two(a[r], b[r]).into_iter().enumerate() {
                    value.store(to.add((4 * r + q) * step));
                }
            }
        }
    }
}

/// A of two values.
///
/// # Safety
/// As the methods of [`Simd`].
#[inline(always)]
unsafe fn from_two<S: Simd>(a: S, b: S) -> [S; 4] {
    // SAFETY: the caller upholds the contract.
    unsafe { [a, a.add(b), a.sub(b), S::splat(0.0).sub(b)] }
}

/// Aᵀ m A of tiles, the transform of products to outputs.
pub(super) struct Back<'a> {
    pub tiles: &'a Tiles,
    /// Output channels.
    pub out: usize,
    /// Rows of tiles, counted over all images.
    pub rows: Range<usize>,
    /// The products of place p of tile t lie from `values[p · step + t · out]` on.
    pub values: &'a [f32],
    pub step: usize,
    /// Images without padding, `[row][column][out]` each.
    pub output: &'a mut [Slot],
    /// Whether to add to what `output` holds.
    pub add: bool,
}

impl Back<'_> {
    /// Writes the pixels of the tiles that lie in their image.
    ///
    /// # Panics
    /// If there are too few products or images.
    ///
    /// # Safety
    /// With `add`, `output` holds floats.
    pub unsafe fn run(self, path: Path) {
        let Self { tiles, out, rows, values, step, output, .. } = &self;
        let [height, width, _] = tiles.padded.inner;
        assert!(out.is_multiple_of(16), "whole vectors");
        assert!(
            (tiles.rows, tiles.columns) == (height.div_ceil(2), width.div_ceil(2)),
            "its tiles"
        );
        let images = rows.end.div_ceil(tiles.rows);
        assert!(images * height * width * out <= output.len(), "as many images");
        let count = rows.len() * tiles.columns;
        assert!(count * out <= *step && PLACES * step <= values.len(), "a product for each");
        // SAFETY: the sizes were checked; the caller ensures what `output` holds.
        unsafe { simd::on(path, self) }
    }
}

impl Vectors for Back<'_> {
    /// # Safety
    /// See the assertions and the contract of [`Back::run`](Self::run).
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { tiles, out, rows, values, step, output, add } = self;
        let [height, width, _] = tiles.padded.inner;
        let (mut from, output) = (values.as_ptr(), output.as_mut_ptr().cast::<f32>());
        // SAFETY: by this function's contract.
        unsafe {
            for y in rows {
                let (image, y) = (y / tiles.rows, 2 * (y % tiles.rows));
                let first = output.add((image * height + y) * width * out);
                for x in 0..tiles.columns {
                    let (to, x) = (first.add(2 * x * out), 2 * x);
                    for c in (0..out).step_by(S::LANES) {
                        let mut m = [[S::splat(0.0); 4]; 4];
                        for (r, m) in m.iter_mut().enumerate() {
                            for (q, m) in m.iter_mut().enumerate() {
                                *m = S::load(from.add((4 * r + q) * step + c));
                            }
                        }
                        let mut columns = [[S::splat(0.0); 2]; 4];
                        for q in 0..4 {
                            columns[q] = two(m[0][q], m[1][q], m[2][q], m[3][q]);
                        }
                        for r in 0..2.min(height - y) {
                            let [a, b, c0, d] = &columns;
                            let values = two(a[r], b[r], c0[r], d[r]);
                            for (q, mut value) in values.into_iter().take(width - x).enumerate() {
                                let to = to.add((r * width + q) * out + c);
                                if add {
                                    value = value.add(S::load(to));
                                }
                                value.store(to);
                            }
                        }
                    }
                    from = from.add(out);
                }
            }
        }
    }
}

/// Aᵀ of four values.
///
/// # Safety
/// As the methods of [`Simd`].
#[inline(always)]
unsafe fn two<S: Simd>(a: S, b: S, c: S, d: S) -> [S; 2] {
    // SAFETY: the caller upholds the contract.
    unsafe { [a.add(b).add(c), b.sub(c).sub(d)] }
}
