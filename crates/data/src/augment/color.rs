//! Colour operations on planar images `[3, pixels]` in 0 to 1, with torchvision's tensor semantics:
//! each blends with a reference and clamps.

use pulp::Arch;

/// Weights of red, green and blue in grey (ITU-R 601, torchvision's four digits).
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

fn planes(image: &mut [f32]) -> (&mut [f32], &mut [f32], &mut [f32]) {
    let n = image.len() / 3;
    let (r, rest) = image.split_at_mut(n);
    let (g, b) = rest.split_at_mut(n);
    (r, g, b)
}

fn grey(r: f32, g: f32, b: f32) -> f32 {
    GREY[0] * r + GREY[1] * g + GREY[2] * b
}

/// Multiplies by `factor` (1 = unchanged) and clamps.
pub fn adjust_brightness(image: &mut [f32], factor: f32) {
    Arch::new().dispatch(|| {
        for v in image {
            *v = (*v * factor).clamp(0.0, 1.0);
        }
    });
}

/// Moves every value away from (or towards) the mean grey of the whole image by `factor`.
pub fn adjust_contrast(image: &mut [f32], factor: f32) {
    Arch::new().dispatch(|| {
        let (r, g, b) = planes(image);
        let pixels = r.iter().zip(g.iter()).zip(b.iter());
        let total: f32 = pixels.map(|((r, g), b)| grey(*r, *g, *b)).sum();
        let base = (1.0 - factor) * total / r.len().max(1) as f32;
        for v in image {
            *v = (*v * factor + base).clamp(0.0, 1.0);
        }
    });
}

/// Moves every pixel away from (or towards) its own grey by `factor`.
pub fn adjust_saturation(image: &mut [f32], factor: f32) {
    Arch::new().dispatch(|| {
        let (r, g, b) = planes(image);
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            let base = (1.0 - factor) * grey(*r, *g, *b);
            for v in [r, g, b] {
                *v = (*v * factor + base).clamp(0.0, 1.0);
            }
        }
    });
}

/// Replaces every pixel by its grey.
pub fn grayscale(image: &mut [f32]) {
    Arch::new().dispatch(|| {
        let (r, g, b) = planes(image);
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            let v = grey(*r, *g, *b);
            (*r, *g, *b) = (v, v, v);
        }
    });
}

/// Rotates the hue by `shift` of a full circle (−0.5 to 0.5), through HSV.
pub fn adjust_hue(image: &mut [f32], shift: f32) {
    Arch::new().dispatch(|| {
        let (r, g, b) = planes(image);
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            (*r, *g, *b) = turn_hue(*r, *g, *b, shift);
        }
    });
}

/// Uses selections instead of branches, so that the surrounding loop is vectorised. Grey pixels have no hue and stay.
#[inline(always)]
fn turn_hue(r: f32, g: f32, b: f32, shift: f32) -> (f32, f32, f32) {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = high - low;
    // Hue in sixths of the circle, from the largest channel.
    let (sixth, lead) = if high == r {
        (0.0, g - b)
    } else if high == g {
        (2.0, b - r)
    } else {
        (4.0, r - g)
    };
    let hue = sixth + lead / if chroma == 0.0 { 1.0 } else { chroma } + 6.0 * shift;
    let hue = hue + if hue < 0.0 { 6.0 } else { 0.0 } - if hue >= 6.0 { 6.0 } else { 0.0 };
    // Each channel is a trapezoid of the hue between low and high.
    let channel = |offset: f32| {
        let k = offset + hue;
        let k = k - if k >= 6.0 { 6.0 } else { 0.0 };
        high - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
    };
    (channel(5.0), channel(3.0), channel(1.0))
}

/// Solarisation inverts values from this one up: 128 of 255, PIL's default.
const SOLAR: f32 = 128.0 / 255.0;

/// Inverts all values of at least 128 of 255.
pub fn solarize(image: &mut [f32]) {
    Arch::new().dispatch(|| {
        for v in image {
            *v = if *v >= SOLAR { 1.0 - *v } else { *v };
        }
    });
}

/// The projection of the reference's Jigsaw (docs/protocol.md, 2.4): I − a·aᵀ/6 with a = (−1, 2, −1), which removes
/// the cue of chromatic aberration.
const PROJECTION: [[f32; 3]; 3] = [
    [5.0 / 6.0, 1.0 / 3.0, -1.0 / 6.0],
    [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0],
    [-1.0 / 6.0, 1.0 / 3.0, 5.0 / 6.0],
];

/// Projects every pixel along the green-magenta axis; not clamped.
pub fn project_color(image: &mut [f32]) {
    Arch::new().dispatch(|| {
        let (r, g, b) = planes(image);
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            [*r, *g, *b] = PROJECTION.map(|[x, y, z]| x * *r + y * *g + z * *b);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: &[f32], b: &[f32]) {
        assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-6), "{a:?} {b:?}");
    }

    #[test]
    fn factor_one_and_shift_zero_change_nothing() {
        let image = [0.1, 0.9, 0.4, 0.2, 0.3, 0.4, 0.8, 0.0, 0.4];
        for op in [adjust_brightness, adjust_contrast, adjust_saturation] {
            let mut copy = image;
            op(&mut copy, 1.0);
            near(&copy, &image);
        }
        let mut copy = image;
        adjust_hue(&mut copy, 0.0);
        near(&copy, &image);
    }

    #[test]
    fn a_third_of_the_hue_circle_rotates_the_channels() {
        let mut image = [0.9, 0.2, 0.4];
        adjust_hue(&mut image, 1.0 / 3.0);
        near(&image, &[0.4, 0.9, 0.2]);
        adjust_hue(&mut image, -1.0 / 3.0);
        near(&image, &[0.9, 0.2, 0.4]);
    }

    #[test]
    fn the_projection_removes_its_axis_and_keeps_what_is_across() {
        let mut image = [-1.0, 2.0, -1.0];
        project_color(&mut image);
        near(&image, &[0.0; 3]);
        let mut image = [0.4, 0.4, 0.4];
        project_color(&mut image);
        near(&image, &[0.4; 3]);
    }

    /// `PIL.ImageOps.solarize` of 0, 127, 128, 200, 255 gives 0, 127, 127, 55, 0.
    #[test]
    fn solarisation_is_pils() {
        let mut image = [0.0, 127.0, 128.0, 200.0, 255.0, 1.0].map(|v| v / 255.0);
        solarize(&mut image);
        near(&image, &[0.0, 127.0, 127.0, 55.0, 0.0, 1.0].map(|v| v / 255.0));
    }

    #[test]
    fn values_by_hand() {
        let mut image = [0.5, 0.2, 0.8];
        adjust_brightness(&mut image, 1.4);
        near(&image, &[0.7, 0.28, 1.0]);
        let grey = 0.2989 * 0.7 + 0.587 * 0.28 + 0.114;
        let mut contrast = image;
        adjust_contrast(&mut contrast, 0.5);
        near(&contrast, &[0.35 + grey / 2.0, 0.14 + grey / 2.0, 0.5 + grey / 2.0]);
        let mut grey_image = image;
        adjust_saturation(&mut grey_image, 0.0);
        near(&grey_image, &[grey; 3]);
        grayscale(&mut image);
        near(&image, &[grey; 3]);
    }
}
