//! Learned positions for images of another size: bicubic interpolation, as DINO does for its small crops.

use burn::tensor::{Device, Tensor, TensorData};

/// The parameter a of the cubic kernel (Keys, 1981), with PyTorch's value.
const A: f64 = -0.75;

/// Resizes `positions` of a square of `from` patches a side, `[from², dim]`, to a grid of `to` rows and columns,
/// `[rows · columns, dim]`: PyTorch's `F.interpolate(mode="bicubic", align_corners=False)`, without antialiasing.
pub(super) fn resized(positions: Tensor<2>, from: usize, to: [usize; 2]) -> Tensor<2> {
    let [rows, columns] = to;
    if to == [from, from] {
        return positions;
    }
    let (device, [_, dim]) = (positions.device(), positions.dims());
    // First rows, then columns: two matrix products, which Burn can differentiate.
    let by_rows = weights(from, rows, &device).matmul(positions.reshape([from, from * dim]));
    let turned = by_rows.reshape([rows, from, dim]).swap_dims(0, 1).reshape([from, rows * dim]);
    let both = weights(from, columns, &device).matmul(turned);
    both.reshape([columns, rows, dim]).swap_dims(0, 1).reshape([rows * columns, dim])
}

/// Interpolation weights from `from` positions to `to` positions along an axis, `[to, from]`.
fn weights(from: usize, to: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0f64; to * from];
    for (place, row) in values.chunks_exact_mut(from).enumerate() {
        let at = (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = at.floor();
        for tap in -1..=2 {
            // Beyond the border, the value at the border repeats.
            let taken = (first as isize + tap).clamp(0, from as isize - 1) as usize;
            row[taken] += cubic(at - first - tap as f64);
        }
    }
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, [to, from]), device)
}

/// The cubic kernel.
fn cubic(distance: f64) -> f64 {
    let x = distance.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        A * (((x - 5.0) * x + 8.0) * x - 4.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `F.interpolate(x, size=(rows, columns), mode="bicubic", align_corners=False)` of squares, PyTorch 2.15.
    #[test]
    fn positions_are_pytorchs_bicubic_ones() {
        let device = Device::flex();
        let squares: Vec<f32> = (0..9u8).map(|i| f32::from(i * i)).collect();
        let of = |to: [usize; 2]| -> Vec<f32> {
            // Each position has a second number, the negative of the first.
            let both: Vec<f32> = squares.iter().flat_map(|v| [*v, -v]).collect();
            let positions = Tensor::from_data(TensorData::new(both, [9, 2]), &device);
            let found: Vec<f32> = resized(positions, 3, to).into_data().try_to_vec().unwrap();
            assert!(found.chunks(2).all(|pair| pair[0] == -pair[1]));
            found.into_iter().step_by(2).collect()
        };
        assert_eq!(of([3, 3]), squares);
        for (to, expected) in [
            (
                [2, 5],
                vec![
                    0.883_594, 1.624_752, 3.238_281, 5.931_813, 7.784_97, 29.061_47, 33.800_316,
                    42.050_78, 51.381_256, 57.232_105,
                ],
            ),
            ([4, 1], vec![-0.076_660_156, 6.969_238, 29.539_55, 51.368_654]),
        ] {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
            let found = of(to);
            assert!(
                found.len() == expected.len() && found.iter().zip(&expected).all(near),
                "{found:?}"
            );
        }
    }
}
