//! Pasting a picture onto an image.

use image::{RgbImage, RgbaImage};

use crate::Spot;

/// Blends `picture` over `image` with its corner at `spot`; the part beyond the edge is clipped.
///
/// As in the reference (composite mode), `out = a·base + (1−a)·trigger` with
/// `a = floor(255·alpha)/255`: `alpha` is the weight of the *base*, so 0 is an opaque trigger. Where
/// the trigger itself is transparent, its weight shrinks by its own alpha.
pub fn stamp(image: &mut RgbImage, picture: &RgbaImage, spot: Spot, alpha: f64) {
    let a = (255.0 * alpha.clamp(0.0, 1.0)).floor() / 255.0;
    let (width, height) = image.dimensions();
    for (tx, ty, ink) in picture.enumerate_pixels() {
        let (x, y) = (spot.x.saturating_add(tx), spot.y.saturating_add(ty));
        if x >= width || y >= height {
            continue;
        }
        let [ink @ .., opacity] = ink.0;
        let weight = (1.0 - a) * f64::from(opacity) / 255.0;
        let base = image.get_pixel_mut(x, y);
        for (b, t) in base.0.iter_mut().zip(ink) {
            *b = ((1.0 - weight) * f64::from(*b) + weight * f64::from(t)).round() as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TriggerConfig;
    use image::Rgb;

    fn trigger() -> RgbaImage {
        let config = TriggerConfig::Htba { id: 12, width: 8.into() };
        (*config.build(32).unwrap().picture((32, 32))).clone()
    }

    fn colour(trigger: &RgbaImage, x: u32, y: u32) -> Rgb<u8> {
        let [r, g, b, _] = trigger.get_pixel(x, y).0;
        Rgb([r, g, b])
    }

    #[test]
    fn only_the_box_changes_and_alpha_0_is_a_hard_paste() {
        let trigger = trigger();
        let mut image = RgbImage::from_pixel(32, 32, Rgb([7, 7, 7]));
        let spot = Spot { x: 5, y: 20, width: 8, height: 8 };
        stamp(&mut image, &trigger, spot, 0.0);
        for (x, y, p) in image.enumerate_pixels() {
            let inside = (5..13).contains(&x) && (20..28).contains(&y);
            let expected = if inside { colour(&trigger, x - 5, y - 20) } else { Rgb([7, 7, 7]) };
            assert_eq!(*p, expected, "at {x}, {y}");
        }
    }

    #[test]
    fn alpha_weighs_the_base() {
        let trigger = trigger();
        let mut image = RgbImage::from_pixel(32, 32, Rgb([200, 200, 200]));
        let spot = Spot { x: 0, y: 0, width: 8, height: 8 };
        stamp(&mut image, &trigger, spot, 0.5);
        let a = 127.0 / 255.0;
        for (p, t) in image.get_pixel(3, 3).0.iter().zip(colour(&trigger, 3, 3).0) {
            let expected = a * 200.0 + (1.0 - a) * f64::from(t);
            assert!((f64::from(*p) - expected).abs() <= 0.5);
        }
    }

    #[test]
    fn a_transparent_pixel_leaves_the_base() {
        let mut trigger = trigger();
        trigger.get_pixel_mut(2, 2).0[3] = 0;
        let mut image = RgbImage::from_pixel(32, 32, Rgb([9, 8, 7]));
        stamp(&mut image, &trigger, Spot { x: 0, y: 0, width: 8, height: 8 }, 0.0);
        assert_eq!(image.get_pixel(2, 2).0, [9, 8, 7]);
        assert_eq!(*image.get_pixel(3, 2), colour(&trigger, 3, 2));
    }

    #[test]
    fn a_patch_over_the_edge_is_clipped() {
        let mut image = RgbImage::new(10, 10);
        stamp(&mut image, &trigger(), Spot { x: 8, y: 9, width: 8, height: 8 }, 0.0);
        let touched = image.pixels().filter(|p| p.0 != [0, 0, 0]).count();
        assert!((1..=2).contains(&touched));
    }
}
