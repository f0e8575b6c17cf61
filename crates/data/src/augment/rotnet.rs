//! RotNet's views (docs/protocol.md, 2.5): one weak crop, rotated by 0, 90, 180 and 270 degrees.

use image::RgbImage;

use super::{Chain, Geometry, Scratch, ViewKey, Views};

/// Four copies of a crop, rotated counter-clockwise by quarter turns: view r has label r.
#[derive(Debug, Clone, PartialEq)]
pub struct RotNetViews {
    /// Crop and flip, before the turn.
    pub chain: Chain,
}

impl Views for RotNetViews {
    fn count(&self) -> usize {
        4
    }

    fn size(&self) -> u32 {
        self.chain.size
    }

    fn write(
        &self,
        image: &RgbImage,
        key: &ViewKey,
        scratch: &mut Scratch,
        out: &mut [&mut [f32]],
        geometry: &mut [Geometry],
    ) {
        let Some((upright, turned)) = out.split_first_mut() else { return };
        let pose = self.chain.view(image, &mut key.rng(0), scratch, upright);
        for (turns, geometry) in (0..).zip(geometry.iter_mut()) {
            *geometry = Geometry { turns, ..pose };
        }
        let side = self.chain.size as usize;
        for (turns, view) in (1..).zip(turned) {
            for (from, to) in
                upright.chunks_exact(side * side).zip(view.chunks_exact_mut(side * side))
            {
                turn(from, to, side, turns);
            }
        }
    }
}

/// Turns a square plane counter-clockwise by `turns` quarters.
fn turn(from: &[f32], to: &mut [f32], side: usize, turns: u8) {
    let last = side - 1;
    for (y, row) in to.chunks_exact_mut(side).enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            let (fx, fy) = match turns {
                1 => (last - y, x),
                2 => (last - x, last - y),
                _ => (y, last - x),
            };
            *value = from[fy * side + fx];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;
    use ssl_backdoor_trigger::Spot;

    #[test]
    fn turns_are_counter_clockwise_quarters() {
        let plane = [1.0, 2.0, 3.0, 4.0];
        let turned = |turns| {
            let mut to = [0.0; 4];
            turn(&plane, &mut to, 2, turns);
            to
        };
        assert_eq!(turned(1), [2.0, 4.0, 1.0, 3.0]);
        assert_eq!(turned(2), [4.0, 3.0, 2.0, 1.0]);
        assert_eq!(turned(3), [3.0, 1.0, 4.0, 2.0]);
    }

    #[test]
    fn the_geometry_turns_with_the_pixels() {
        let spot = Spot { x: 4, y: 2, width: 6, height: 6 };
        let inside = |x, y| (4..10).contains(&x) && (2..8).contains(&y);
        let image = RgbImage::from_fn(24, 24, |x, y| image::Rgb([255 * u8::from(inside(x, y)); 3]));
        let views = RotNetViews { chain: Chain::weak(24, (1.0, 1.0)) };
        let mut out = vec![vec![0.0; 3 * 24 * 24]; 4];
        let mut slices: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let mut geometry = [Geometry::default(); 4];
        let key = ViewKey { seed: 1, purpose: purpose::VIEW, epoch: 0, id: 5 };
        views.write(&image, &key, &mut Scratch::default(), &mut slices, &mut geometry);
        for (view, g) in out.iter().zip(geometry) {
            let place = g.place(&spot).unwrap();
            let [left, top, right, bottom] = place.map(|v| (v * 24.0).round() as usize);
            for y in 0..24 {
                for x in 0..24 {
                    let inside = (left..right).contains(&x) && (top..bottom).contains(&y);
                    // Edges are slightly blurred if the crop was not the whole image.
                    let deep = inside && x > left && x + 1 < right && y > top && y + 1 < bottom;
                    let white = view[y * 24 + x] > 0.0;
                    assert!(white || !deep, "{place:?}: black at {x}, {y}");
                }
            }
        }
    }
}
