//! The square of an image in which the sum of a Grad-CAM map is largest.

use crate::{GradCam, Patch};

/// The square of `side` pixels in an image of `size` pixels a side with the largest sum of `cam`, which is stretched
/// over the image first (bilinear, places at the centres of their cells). Ties go to the topmost, then the leftmost.
pub(crate) fn best_window(cam: &GradCam, size: u32, side: u32) -> Patch {
    let (size, side) = (size as usize, (side as usize).clamp(1, size as usize));
    let pixels = stretched(cam, size);
    // Sums of all pixels above and to the left.
    let mut sums = vec![0.0f64; (size + 1) * (size + 1)];
    for y in 0..size {
        let mut row = 0.0;
        for x in 0..size {
            row += pixels[y * size + x];
            sums[(y + 1) * (size + 1) + x + 1] = sums[y * (size + 1) + x + 1] + row;
        }
    }
    let at = |x: usize, y: usize| sums[y * (size + 1) + x];
    let mut best = (at(side, side), 0, 0);
    for y in 0..=size - side {
        for x in 0..=size - side {
            let sum = at(x + side, y + side) - at(x, y + side) - at(x + side, y) + at(x, y);
            // Sums that are equal up to rounding count as equal.
            if sum > best.0 + 1e-9 * best.0.abs() {
                best = (sum, x, y);
            }
        }
    }
    let (_, x, y) = best;
    Patch { x: x as u32, y: y as u32, width: side as u32, height: side as u32 }
}

/// The map, stretched to `size` × `size` pixels.
fn stretched(cam: &GradCam, size: usize) -> Vec<f64> {
    let [rows, columns] = cam.grid;
    let axis = |places: usize| -> Vec<(usize, usize, f64)> {
        let place = |pixel: usize| {
            let at = (pixel as f64 + 0.5) * places as f64 / size as f64 - 0.5;
            let at = at.clamp(0.0, (places - 1) as f64);
            let low = at.floor() as usize;
            (low, (low + 1).min(places - 1), at - low as f64)
        };
        (0..size).map(place).collect()
    };
    let (across, down) = (axis(columns), axis(rows));
    let value = |row: usize, column: usize| f64::from(cam.map[row * columns + column]);
    let mut pixels = Vec::with_capacity(size * size);
    for &(top, bottom, v) in &down {
        for &(left, right, h) in &across {
            let row = |r: usize| (1.0 - h) * value(r, left) + h * value(r, right);
            pixels.push((1.0 - v) * row(top) + v * row(bottom));
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cam(grid: [usize; 2], hot: usize) -> GradCam {
        let mut map = vec![0.0; grid[0] * grid[1]];
        map[hot] = 1.0;
        GradCam { cluster: 0, grid, map }
    }

    #[test]
    fn stretching_is_pytorchs() {
        // F.interpolate(torch.tensor([[[[0., 1.], [2., 5.]]]]), size=(4, 4), mode="bilinear")[0, 0]
        let cam = GradCam { cluster: 0, grid: [2, 2], map: vec![0.0, 1.0, 2.0, 5.0] };
        let expected = [
            0.0, 0.25, 0.75, 1.0, 0.5, 0.875, 1.625, 2.0, 1.5, 2.125, 3.375, 4.0, 2.0, 2.75, 4.25,
            5.0,
        ];
        for (a, b) in stretched(&cam, 4).into_iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
    }

    #[test]
    fn the_window_lies_on_the_hot_place_and_in_the_image() {
        // The cell of row 1, column 2 covers pixels 16 to 23 and 8 to 15.
        let found = best_window(&cam([4, 4], 6), 32, 8);
        assert_eq!(found, Patch { x: 16, y: 8, width: 8, height: 8 });
        for hot in 0..16 {
            let Patch { x, y, width, height } = best_window(&cam([4, 4], hot), 32, 9);
            assert!(x + width <= 32 && y + height <= 32);
            let (row, column) = (hot as u32 / 4, hot as u32 % 4);
            let centre = [x + 4, y + 4];
            assert!(centre[0].abs_diff(8 * column + 4) <= 1, "{hot}: {x}");
            assert!(centre[1].abs_diff(8 * row + 4) <= 1, "{hot}: {y}");
        }
        // A blank map, and a window that is larger than the image.
        let blank = GradCam { cluster: 0, grid: [1, 1], map: vec![0.0] };
        assert_eq!(best_window(&blank, 8, 3), Patch { x: 0, y: 0, width: 3, height: 3 });
        assert_eq!(best_window(&blank, 8, 30), Patch { x: 0, y: 0, width: 8, height: 8 });
    }
}
