//! A feature map as pixels, for programs that cannot show SVG.

use image::{Rgb, RgbImage};

use crate::record::{FeatureMap, Point};

/// Side of the image in pixels, and the margin around the points.
const SIDE: u32 = 480;
const MARGIN: f32 = 12.0;
/// Half the side of a dot in pixels.
const DOT: i64 = 2;
/// Colours of clean images of the target class, of patched images, and of the other classes in turn.
const TARGET: Rgb<u8> = Rgb([0xd9, 0x53, 0x4f]);
const PATCHED: Rgb<u8> = Rgb([0, 0, 0]);
const CLASSES: [Rgb<u8>; 9] = [
    Rgb([0x3b, 0x82, 0xc4]),
    Rgb([0x3a, 0x9d, 0x6e]),
    Rgb([0xb0, 0x7c, 0xc6]),
    Rgb([0xd0, 0x8c, 0x2f]),
    Rgb([0x7a, 0x87, 0x94]),
    Rgb([0x2b, 0xa3, 0xa8]),
    Rgb([0x8a, 0x6d, 0x3b]),
    Rgb([0xc4, 0x5f, 0xa0]),
    Rgb([0x8c, 0x9a, 0x2f]),
];

/// Dots on white: clean images in the colour of their class, the target's in red, patched images in black.
pub(crate) fn map_image(map: &FeatureMap, target: Option<u32>) -> RgbImage {
    let mut image = RgbImage::from_pixel(SIDE, SIDE, Rgb([255; 3]));
    let across = spread(&map.points, |point| point.x);
    let down = spread(&map.points, |point| point.y);
    // Patched images are drawn last, so that they stay visible.
    let (patched, clean): (Vec<_>, Vec<_>) = map.points.iter().partition(|point| point.patched);
    for point in clean.into_iter().chain(patched) {
        let color = match (point.patched, Some(point.class) == target) {
            (true, _) => PATCHED,
            (false, true) => TARGET,
            (false, false) => CLASSES[point.class as usize % CLASSES.len()],
        };
        dot(&mut image, [place(point.x, across), place(-point.y, [-down[1], -down[0]])], color);
    }
    image
}

/// The least and the largest coordinate.
fn spread(points: &[Point], of: impl Fn(&Point) -> f32) -> [f32; 2] {
    let all = || points.iter().map(&of).filter(|value| value.is_finite());
    [all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max)]
}

/// The pixel of a coordinate.
fn place(value: f32, [least, most]: [f32; 2]) -> i64 {
    let share = (value - least) / (most - least).max(f32::MIN_POSITIVE);
    (MARGIN + share * (SIDE as f32 - 2.0 * MARGIN)) as i64
}

fn dot(image: &mut RgbImage, [x, y]: [i64; 2], color: Rgb<u8>) {
    let near = |middle: i64| middle - DOT..=middle + DOT;
    for (x, y) in near(y).flat_map(|y| near(x).map(move |x| (x, y))) {
        if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
            && let Some(pixel) = image.get_pixel_mut_checked(x, y)
        {
            *pixel = color;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within_the_image_with_patched_ones_on_top() {
        let point = |x, y, class, patched| Point { x, y, class, patched };
        let map = FeatureMap {
            points: vec![
                point(-5.0, 1.0, 0, true),
                point(-5.0, 1.0, 0, false),
                point(3.0, -2.0, 4, false),
                point(3.0, 1.0, 3, false),
            ],
        };
        let image = map_image(&map, Some(4));
        let (near, far) = (MARGIN as u32, SIDE - MARGIN as u32);
        // The y axis points up.
        assert_eq!(*image.get_pixel(near, near), PATCHED);
        assert_eq!(*image.get_pixel(far, far), TARGET);
        assert_eq!(*image.get_pixel(far, near), CLASSES[3]);
        assert_eq!(*image.get_pixel(near, far), Rgb([255; 3]));
    }
}
