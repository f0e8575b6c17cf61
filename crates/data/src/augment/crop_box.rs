//! Crop boxes of torchvision's RandomResizedCrop and of a single draw.

use rand::RngExt;
use ssl_backdoor_rng::ChaCha8Rng;

/// Ratio of width to height, as in torchvision.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
const TRIES: usize = 10;

/// A box on an image, in pixels from the top left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// A box of `scale` (share of the area, low and high) with a log-uniform ratio in 3/4 to 4/3; after
/// ten misses the largest central box of an allowed ratio (torchvision's `RandomResizedCrop`).
pub fn random_resized_crop_box(
    (width, height): (u32, u32),
    scale: (f64, f64),
    rng: &mut ChaCha8Rng,
) -> CropBox {
    if let Some(found) = tried_crop_box((width, height), scale, rng) {
        return found;
    }
    let ratio = f64::from(width) / f64::from(height);
    let (w, h) = if ratio < RATIO.0 {
        (width, ((f64::from(width) / RATIO.0).round() as u32).clamp(1, height))
    } else if ratio > RATIO.1 {
        (((f64::from(height) * RATIO.1).round() as u32).clamp(1, width), height)
    } else {
        (width, height)
    };
    CropBox { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h }
}

/// The first of ten draws that fits, if one does.
pub(super) fn tried_crop_box(
    (width, height): (u32, u32),
    scale: (f64, f64),
    rng: &mut ChaCha8Rng,
) -> Option<CropBox> {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..TRIES {
        let target = area * rng.random_range(scale.0..=scale.1);
        let ratio = rng.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
        let w = (target * ratio).sqrt().round() as u32;
        let h = (target / ratio).sqrt().round() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let y = rng.random_range(0..=height - h);
            let x = rng.random_range(0..=width - w);
            return Some(CropBox { x, y, width: w, height: h });
        }
    }
    None
}

/// The same with a single draw of area and ratio: a box that is wider or higher than the image is clipped to it (the
/// crop of the official MAE's linear probe, after BYOL's). On images far from square it therefore shows more than
/// [`random_resized_crop_box`] and has other shapes.
pub fn one_draw_crop_box(
    (width, height): (u32, u32),
    scale: (f64, f64),
    rng: &mut ChaCha8Rng,
) -> CropBox {
    let share = rng.random_range(scale.0..=scale.1);
    let ratio = rng.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
    let [w, h] = clamped_sides((width, height), share, ratio);
    let y = rng.random_range(0..=height - h);
    let x = rng.random_range(0..=width - w);
    CropBox { x, y, width: w, height: h }
}

/// Width and height of a box with this share of the area and this aspect ratio, at least one pixel and at most the
/// image.
fn clamped_sides((width, height): (u32, u32), share: f64, ratio: f64) -> [u32; 2] {
    let target = f64::from(width) * f64::from(height) * share;
    let side = |of: f64, most: u32| (of.sqrt().round() as u32).clamp(1, most.max(1));
    [side(target * ratio, width), side(target / ratio, height)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;
    use ssl_backdoor_rng::keyed;

    #[test]
    fn boxes_lie_inside_and_keep_scale_and_ratio() {
        for id in 0..2000 {
            let mut rng = keyed(1, purpose::VIEW, 0, id, 0);
            let size = (rng.random_range(1..50), rng.random_range(1..50));
            let c = random_resized_crop_box(size, (0.2, 1.0), &mut rng);
            assert!(c.width >= 1 && c.height >= 1, "{c:?}");
            assert!(c.x + c.width <= size.0 && c.y + c.height <= size.1, "{c:?} of {size:?}");
        }
        let mut areas: Vec<f64> = (0..4000)
            .map(|id| {
                let mut rng = keyed(1, purpose::VIEW, 0, id, 0);
                let c = random_resized_crop_box((224, 224), (0.2, 1.0), &mut rng);
                let ratio = f64::from(c.width) / f64::from(c.height);
                assert!((0.74..1.35).contains(&ratio), "{c:?}");
                f64::from(c.width * c.height) / (224.0 * 224.0)
            })
            .collect();
        areas.sort_by(f64::total_cmp);
        assert!(areas[0] > 0.195 && areas[areas.len() - 1] <= 1.0);
        // A draw of area a is kept with probability min(1, ln(1/a) / ln(4/3)); that density has its
        // median at 0.5345.
        assert!((0.52..0.55).contains(&areas[2000]), "median {}", areas[2000]);
    }

    /// Sides computed by hand, from the official MAE's `util/crop.py`: `round(sqrt(area · share · ratio))` and
    /// `round(sqrt(area · share / ratio))`, each at most the image's.
    #[test]
    fn review_1_11_a_single_draw_is_cut_to_the_image() {
        for (size, share, ratio, sides) in [
            ((500, 375), 1.0, 4.0 / 3.0, [500, 375]),
            ((500, 375), 0.5, 0.75, [265, 354]),
            ((500, 375), 1.0, 0.75, [375, 375]),
            ((500, 100), 1.0, 1.0, [224, 100]),
            ((100, 500), 0.2, 4.0 / 3.0, [100, 87]),
            ((3, 1), 0.01, 1.0, [1, 1]),
        ] {
            assert_eq!(clamped_sides(size, share, ratio), sides, "{size:?} {share} {ratio}");
        }
        // On a wide image torchvision's ten tries rarely find a box as high as the image; a clamped draw often does.
        type Draw = fn((u32, u32), (f64, f64), &mut ChaCha8Rng) -> CropBox;
        let full = |of: Draw| {
            let high = |id: &u64| {
                let c = of((500, 100), (0.08, 1.0), &mut keyed(1, purpose::VIEW, 0, *id, 0));
                assert!(c.x + c.width <= 500 && c.y + c.height <= 100, "{c:?}");
                c.height == 100
            };
            (0..1000).filter(high).count()
        };
        let (one, ten) = (full(one_draw_crop_box), full(random_resized_crop_box));
        // Some of the ten tries fit; if none does, the fallback is a full-height box.
        assert!(one > 800 && one > 3 * ten, "{one} {ten}");
    }
}
