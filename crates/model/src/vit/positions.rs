//! Position embeddings of a transformer.

use burn::tensor::{Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The positions that a transformer adds to its tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Sines and cosines of row and column, as in MAE; for images of any size.
    #[default]
    Fixed,
    /// Learned, as in timm, for a square of this many patches a side. For other sizes they are interpolated, as in DINO.
    Learned(#[schemars(range(min = 1, max = 256))] usize),
}

impl Positions {
    pub(crate) fn is_fixed(&self) -> bool {
        *self == Self::Fixed
    }
}

/// Fixed 2-D sine and cosine positions of a grid of patches, `[patches, dim]`: the first half of a
/// token encodes the column, the second the row, with sines before cosines in each half (MAE).
pub(super) fn positions(grid: [usize; 2], dim: usize, device: &Device) -> Tensor<2> {
    let values = fixed_positions(grid, dim);
    Tensor::from_data(TensorData::new(values, [grid[0] * grid[1], dim]), device)
}

/// The values of [`positions`], row by row.
pub(super) fn fixed_positions(grid: [usize; 2], dim: usize) -> Vec<f32> {
    sines_and_cosines(grid, dim, |row, column| [column, row])
}

/// MoCo v3's positions, whose first half encodes the row.
pub(super) fn fixed_positions_by_rows(grid: [usize; 2], dim: usize) -> Vec<f32> {
    sines_and_cosines(grid, dim, |row, column| [row, column])
}

/// For each cell of a grid, the sines and cosines of the two numbers that `halves` returns for its row and column.
fn sines_and_cosines(
    [rows, columns]: [usize; 2],
    dim: usize,
    halves: fn(usize, usize) -> [usize; 2],
) -> Vec<f32> {
    let quarter = dim / 4;
    let mut values = Vec::with_capacity(rows * columns * dim);
    let angles = |at: usize| {
        (0..quarter).map(move |i| at as f64 / 10_000f64.powf(i as f64 / quarter as f64))
    };
    for row in 0..rows {
        for column in 0..columns {
            for at in halves(row, column) {
                values.extend(angles(at).map(|a| a.sin() as f32));
                values.extend(angles(at).map(|a| a.cos() as f32));
            }
        }
    }
    values
}
