//! The crop of a view: which part of the image it shows, and how this part is flipped and rotated. It locates a
//! trigger's box in every view.

use ssl_backdoor_trigger::Spot;

use super::CropBox;

/// The part of an image that a view shows, and its pose.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Geometry {
    /// Left and top edge of the part, in pixels of the image.
    pub corner: [f64; 2],
    /// Width and height of the part, in pixels of the image.
    pub extent: [f64; 2],
    /// Whether the part is mirrored left to right.
    pub flip: bool,
    /// Quarter turns counter-clockwise, after the flip: 0 to 3.
    pub turns: u8,
}

impl From<CropBox> for Geometry {
    fn from(crop: CropBox) -> Self {
        let CropBox { x, y, width, height } = crop;
        Self {
            corner: [x.into(), y.into()],
            extent: [width.into(), height.into()],
            ..Self::default()
        }
    }
}

impl Geometry {
    /// The share of the patch's area that is in the view, 0 to 1.
    pub fn visible(&self, spot: &Spot) -> f64 {
        let [left, top, right, bottom] = self.overlap(spot);
        let area = f64::from(spot.width) * f64::from(spot.height);
        if area > 0.0 { (right - left) * (bottom - top) / area } else { 0.0 }
    }

    /// The visible part of the patch in the view, as fractions of the view's sides:
    /// `[left, top, right, bottom]`; `None` if nothing is visible.
    pub fn place(&self, spot: &Spot) -> Option<[f64; 4]> {
        let [left, top, right, bottom] = self.overlap(spot);
        if right <= left || bottom <= top {
            return None;
        }
        let [[x0, x1], [y0, y1]] = [[left, right], [top, bottom]];
        let along = |v: f64, axis: usize| (v - self.corner[axis]) / self.extent[axis];
        let mut part = [along(x0, 0), along(y0, 1), along(x1, 0), along(y1, 1)];
        if self.flip {
            part = [1.0 - part[2], part[1], 1.0 - part[0], part[3]];
        }
        for _ in 0..self.turns % 4 {
            // Counter-clockwise: the right edge becomes the top.
            part = [part[1], 1.0 - part[2], part[3], 1.0 - part[0]];
        }
        Some(part)
    }

    /// The overlap of patch and view in the image, `[left, top, right, bottom]`; empty if two opposite edges are
    /// equal.
    fn overlap(&self, spot: &Spot) -> [f64; 4] {
        let [x, y] = self.corner;
        let [width, height] = self.extent;
        let (left, top) = (x.max(spot.x.into()), y.max(spot.y.into()));
        let right = (x + width).min(f64::from(spot.x) + f64::from(spot.width));
        let bottom = (y + height).min(f64::from(spot.y) + f64::from(spot.height));
        [left, top, right.max(left), bottom.max(top)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(flip: bool, turns: u8) -> Geometry {
        Geometry { corner: [10.0, 20.0], extent: [40.0, 20.0], flip, turns }
    }

    #[test]
    fn a_patch_is_followed_through_crop_flip_and_turns() {
        // The patch covers the left tenth to the right three tenths, and the top half.
        let spot = Spot { x: 14, y: 20, width: 8, height: 10 };
        let near = |g: Geometry, expected: [f64; 4]| {
            let found = g.place(&spot).unwrap();
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        };
        near(view(false, 0), [0.1, 0.0, 0.3, 0.5]);
        near(view(true, 0), [0.7, 0.0, 0.9, 0.5]);
        // A quarter turn counter-clockwise: left goes to the bottom, top to the left.
        near(view(false, 1), [0.0, 0.7, 0.5, 0.9]);
        near(view(false, 2), [0.7, 0.5, 0.9, 1.0]);
        near(view(false, 3), [0.5, 0.1, 1.0, 0.3]);
        assert_eq!(view(true, 3).visible(&spot), 1.0);
    }

    #[test]
    fn what_lies_outside_is_not_visible() {
        let half = Spot { x: 6, y: 24, width: 8, height: 8 };
        assert_eq!(view(false, 0).visible(&half), 0.5);
        let outside = Spot { x: 50, y: 24, width: 8, height: 8 };
        assert_eq!(view(false, 0).visible(&outside), 0.0);
        assert_eq!(view(false, 0).place(&outside), None);
    }
}
