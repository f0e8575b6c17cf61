//! CTRL (Li et al., *An Embarrassingly Simple Backdoor Attack on Self-supervised Learning*, ICCV 2023): a faint pattern
//! over the whole image, added to two frequencies of its colour channels.
//!
//! The paper converts an image to YUV, transforms every block of 32 × 32 pixels of U and V by the orthonormal DCT-II,
//! adds `magnitude` to the coefficients (15, 15) and (31, 31), and transforms back. All of that is linear, so it is the
//! same as adding one fixed tile: with aₖ(i) = √(2/32)·cos((2i + 1)kπ/64), the change of U and V in levels is
//! d(i, j) = magnitude·(a₁₅(i)a₁₅(j) + a₃₁(i)a₃₁(j)), and the conversion back to RGB gives 1.14·d in red, −0.977·d in
//! green and 2.029·d in blue. Luma changes by about a thousandth of d: a greyscale image does not show the trigger.
//!
//! Pixels are rounded to whole levels. The tile is repeated from the top left corner to all edges.

use std::fmt;
use std::sync::Arc;

use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::{OutOfRange, require};

use crate::{Footprint, Key, Perturbation, Phase, Record, TriggerError};

/// Side of the tile, in pixels.
const SIDE: usize = 32;
/// The frequencies that are changed, along both axes.
const FREQUENCIES: [usize; 2] = [15, 31];
/// The change in red, green and blue for a change of one level in both U and V.
const RGB: [f64; 3] = [1.14, -(0.396 + 0.581), 2.029];
/// The largest magnitude. A coefficient of 32 × 32 pixels has at most 32 · 255 levels.
const MOST: f64 = 8160.0;

/// The table of the trigger `ctrl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ctrl {
    /// What is added to each coefficient of training images, in levels. The paper uses 50.
    #[schemars(range(max = 8160), extend("exclusiveMinimum" = 0))]
    pub magnitude: f64,
    /// The same for evaluation images. The paper uses 100. Default: `magnitude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 8160), extend("exclusiveMinimum" = 0))]
    pub val_magnitude: Option<f64>,
}

impl fmt::Display for Ctrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CTRL, magnitude {}", self.magnitude)?;
        match self.val_magnitude {
            Some(magnitude) => write!(f, " ({magnitude} on evaluation images)"),
            None => Ok(()),
        }
    }
}

impl Ctrl {
    /// The perturbation of images of `phase`.
    pub(crate) fn build(&self, phase: Phase) -> Result<Arc<dyn Perturbation>, TriggerError> {
        let (field, magnitude) = match (phase, self.val_magnitude) {
            (Phase::Evaluation, Some(magnitude)) => ("trigger.val_magnitude", magnitude),
            _ => ("trigger.magnitude", self.magnitude),
        };
        let fits = magnitude > 0.0 && magnitude <= MOST;
        require(fits, field, magnitude, format!("allowed is 0 < magnitude <= {MOST}"))?;
        Ok(Arc::new(Tile { magnitude, unit: unit() }))
    }
}

/// d(i, j) of magnitude 1, row by row.
fn unit() -> Vec<f64> {
    let wave = |k: usize, i: usize| {
        let angle = ((2 * i + 1) * k) as f64 * std::f64::consts::PI / (2 * SIDE) as f64;
        (2.0 / SIDE as f64).sqrt() * angle.cos()
    };
    let at = |n: usize| FREQUENCIES.iter().map(|&k| wave(k, n / SIDE) * wave(k, n % SIDE)).sum();
    (0..SIDE * SIDE).map(at).collect()
}

/// The tile of one phase. It writes the ledger column `magnitude`.
#[derive(Debug)]
struct Tile {
    magnitude: f64,
    unit: Vec<f64>,
}

impl Perturbation for Tile {
    fn name(&self) -> &str {
        "ctrl"
    }

    fn draw(&self, _: &Key, _: &RgbImage) -> Result<Record, TriggerError> {
        Ok(Record::default().with("magnitude", self.magnitude))
    }

    fn perturb(&self, record: &Record, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        let magnitude = record.real("magnitude")?;
        let (width, height) = image.dimensions();
        if width.min(height) < SIDE as u32 {
            let reason = format!(
                "the image has {width} x {height} pixels: the trigger ctrl needs {SIDE} x {SIDE} or more"
            );
            return Err(TriggerError::Image { image: "an image".into(), reason });
        }
        for (x, y, pixel) in image.enumerate_pixels_mut() {
            let change = magnitude * self.unit[y as usize % SIDE * SIDE + x as usize % SIDE];
            for (level, share) in pixel.0.iter_mut().zip(RGB) {
                *level = (f64::from(*level) + share * change).round().clamp(0.0, 255.0) as u8;
            }
        }
        Ok(Footprint::Whole)
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"ctrl");
        hasher.update(&self.magnitude.to_le_bytes());
        hasher.finalize().to_hex().to_string()
    }

    fn stem(&self, _: Phase) -> String {
        format!("ctrl_magnitude_{}", self.magnitude)
    }

    fn check(&self, side: u32, images: &str) -> Result<(), TriggerError> {
        if side >= SIDE as u32 {
            return Ok(());
        }
        let allowed = format!(
            "it needs images of {SIDE} x {SIDE} pixels or more, but {images} have {side} pixels a side"
        );
        Err(OutOfRange::new("trigger.kind", "\"ctrl\"", allowed).into())
    }

    /// A chroma sample of JPEG is the mean of 2 × 2 pixels, which averages both frequencies away.
    fn survives_jpeg(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PoisonConfig, psnr, strength};
    use image::Rgb;

    const KEY: Key = Key { seed: 0, phase: Phase::Training, id: 0 };

    fn tile(magnitude: f64) -> Tile {
        Tile { magnitude, unit: unit() }
    }

    fn noise(seed: u32, width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([0, 1, 2].map(|c| {
                let hash = blake3::hash(format!("{seed} {x} {y} {c}").as_bytes());
                hash.as_bytes()[0]
            }))
        })
    }

    #[test]
    fn the_tile_has_the_values_of_the_paper() {
        let unit = unit();
        let d = |i: usize, j: usize| 50.0 * unit[i * SIDE + j];
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 5e-5, "{found} {expected}");
        };
        near(d(0, 0), 1.7232);
        near(d(0, 1), -1.4018);
        near((unit.iter().map(|d| d * d).sum::<f64>() / unit.len() as f64).sqrt() * 50.0, 2.2097);
        let most = unit.iter().fold(0.0f64, |most, d| most.max(50.0 * d.abs()));
        assert!((most - 5.324).abs() < 5e-4, "{most}");
        // Blue moves by at most 10.8 levels.
        let grey = RgbImage::from_pixel(32, 32, Rgb([128; 3]));
        let mut image = grey.clone();
        assert_eq!(tile(50.0).apply(&KEY, &mut image).unwrap(), Footprint::Whole);
        let blue = image.pixels().map(|pixel| pixel[2].abs_diff(128)).max();
        assert_eq!(blue, Some(11));
        // Rounding to levels adds 1/12 to a mean square of 10.37 (2.59 and 41.5 at half and twice the magnitude).
        for (magnitude, expected) in [(50.0, 38.0), (100.0, 32.0)] {
            let mut image = grey.clone();
            tile(magnitude).apply(&KEY, &mut image).unwrap();
            let found = psnr(&grey, &image).unwrap();
            assert!((found - expected).abs() < 0.1, "{magnitude}: {found}");
        }
    }

    /// The orthonormal DCT-II of 32 × 32 values, or its inverse.
    fn dct(values: &[f64], inverse: bool) -> Vec<f64> {
        let n = SIDE as f64;
        let basis = |k: usize, i: usize| {
            let scale = if k == 0 { (1.0 / n).sqrt() } else { (2.0 / n).sqrt() };
            scale * (std::f64::consts::PI * (i as f64 + 0.5) * k as f64 / n).cos()
        };
        let weight = |out: usize, inner: usize| {
            if inverse { basis(inner, out) } else { basis(out, inner) }
        };
        let rows: Vec<f64> = (0..SIDE * SIDE)
            .map(|at| (0..SIDE).map(|j| weight(at % SIDE, j) * values[at / SIDE * SIDE + j]).sum())
            .collect();
        (0..SIDE * SIDE)
            .map(|at| (0..SIDE).map(|i| weight(at / SIDE, i) * rows[i * SIDE + at % SIDE]).sum())
            .collect()
    }

    /// The paper's steps on one block of RGB: to YUV (the constants of kornia), DCT of U and V, the magnitude, and back.
    fn by_definition(block: &[[f64; 3]], magnitude: f64) -> Vec<[f64; 3]> {
        let yuv: Vec<[f64; 3]> = block
            .iter()
            .map(|[r, g, b]| {
                [
                    0.299 * r + 0.587 * g + 0.114 * b,
                    -0.147 * r - 0.289 * g + 0.436 * b,
                    0.615 * r - 0.515 * g - 0.100 * b,
                ]
            })
            .collect();
        let changed = [1, 2].map(|channel| {
            let plane: Vec<f64> = yuv.iter().map(|pixel| pixel[channel]).collect();
            let mut coefficients = dct(&plane, false);
            coefficients[15 * SIDE + 15] += magnitude;
            coefficients[31 * SIDE + 31] += magnitude;
            dct(&coefficients, true)
        });
        let back = |at: usize| {
            let (y, u, v) = (yuv[at][0], changed[0][at], changed[1][at]);
            [y + 1.14 * v, y - 0.396 * u - 0.581 * v, y + 2.029 * u]
        };
        (0..block.len()).map(back).collect()
    }

    #[test]
    fn the_tile_is_what_the_block_transform_adds() {
        for (seed, magnitude) in [(1, 50.0), (2, 100.0), (3, 7.5), (4, 400.0)] {
            let clean = noise(seed, 64, 96);
            let mut image = clean.clone();
            tile(magnitude).apply(&KEY, &mut image).unwrap();
            for (left, top) in [(0, 0), (32, 0), (0, 64), (32, 32)] {
                let at = |n: usize| (left + (n % SIDE) as u32, top + (n / SIDE) as u32);
                let pixel = |n: usize| {
                    let (x, y) = at(n);
                    clean.get_pixel(x, y).0.map(f64::from)
                };
                let block: Vec<[f64; 3]> = (0..SIDE * SIDE).map(pixel).collect();
                // The two colour conversions are not exact inverses. Their error is not part of the trigger.
                let (with, without) =
                    (by_definition(&block, magnitude), by_definition(&block, 0.0));
                for n in 0..SIDE * SIDE {
                    let (x, y) = at(n);
                    for c in 0..3 {
                        let exact = block[n][c] + with[n][c] - without[n][c];
                        let found = f64::from(image.get_pixel(x, y)[c]);
                        let distance = (exact.clamp(0.0, 255.0) - found).abs();
                        assert!(distance <= 0.5 + 1e-9, "{x} {y} {c}: {exact} {found}");
                    }
                }
            }
        }
    }

    /// `tests/fixtures/ctrl.py`: the definition with SciPy's DCT.
    #[test]
    fn the_tile_is_the_definition_by_scipy() {
        let golden = include_str!("../tests/fixtures/ctrl.json");
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let magnitude = golden["magnitude"].as_f64().unwrap();
        let unit = unit();
        for (row, pixels) in golden["rows"].as_object().unwrap() {
            let row: usize = row.parse().unwrap();
            assert_eq!(pixels.as_array().unwrap().len(), SIDE);
            for (j, pixel) in pixels.as_array().unwrap().iter().enumerate() {
                for (c, share) in RGB.into_iter().enumerate() {
                    let exact = pixel[c].as_f64().unwrap();
                    let found = share * magnitude * unit[row * SIDE + j];
                    assert!((found - exact).abs() < 1e-8, "{row} {j} {c}: {found} {exact}");
                }
            }
        }
        let shares: f64 = RGB.iter().map(|share| share * share).sum();
        let squares: f64 = unit.iter().map(|d| (magnitude * d).powi(2)).sum();
        let exact = golden["squares"].as_f64().unwrap();
        assert!((shares * squares - exact).abs() < 1e-5, "{} {exact}", shares * squares);
    }

    #[test]
    fn the_tile_repeats_to_all_edges_and_small_images_are_refused() {
        let grey = RgbImage::from_pixel(70, 45, Rgb([128; 3]));
        let mut image = grey.clone();
        tile(50.0).apply(&KEY, &mut image).unwrap();
        assert!(image.enumerate_pixels().all(|(x, y, p)| p == image.get_pixel(x % 32, y % 32)));
        let error = tile(50.0).apply(&KEY, &mut RgbImage::new(31, 40)).unwrap_err();
        assert!(error.to_string().contains("31 x 40 pixels"), "{error}");
    }

    #[test]
    fn luma_does_not_change() {
        let [r, g, b] = RGB;
        assert!((0.299 * r + 0.587 * g + 0.114 * b).abs() < 0.0014);
    }

    fn config(more: &str, trigger: &str) -> PoisonConfig {
        toml::from_str(&format!("count = 1\n{more}\ntrigger = {{ kind = \"ctrl\", {trigger} }}"))
            .unwrap()
    }

    #[test]
    fn both_phases_have_a_magnitude() {
        let text = "magnitude = 50, val_magnitude = 100.0";
        let config = config("", text);
        config.check(32).unwrap();
        let shown = config.trigger.to_string();
        assert_eq!(shown, "CTRL, magnitude 50 (100 on evaluation images)");
        assert_eq!(strength(&shown), "magnitude 50 (100 on evaluation images)");
        let attack = config.attack(&[(1, 0)], &["cat".into()], 0, 32).unwrap();
        let image = noise(1, 32, 32);
        for (phase, magnitude) in [(Phase::Training, 50.0), (Phase::Evaluation, 100.0)] {
            let poison = attack.poison(phase);
            let record = poison.perturbation.draw(&poison.key(1), &image).unwrap();
            assert_eq!(record, Record::default().with("magnitude", magnitude));
            assert_eq!(poison.perturbation.stem(phase), format!("ctrl_magnitude_{magnitude}"));
        }
        assert_ne!(attack.train.perturbation.hash(), attack.val.perturbation.hash());
        // No key of a patch is written.
        let written = toml::to_string(&config).unwrap();
        assert!(!written.contains("place") && !written.contains("alpha"), "{written}");
        assert_eq!(toml::from_str::<PoisonConfig>(&written).unwrap(), config);
    }

    #[test]
    fn wrong_settings_are_named() {
        let good = "magnitude = 50";
        for (more, trigger, view, words) in [
            ("", good, 31, "trigger.kind = \"ctrl\""),
            ("", "magnitude = 0", 32, "trigger.magnitude = 0"),
            ("", "magnitude = nan", 32, "trigger.magnitude = NaN"),
            ("", "magnitude = 9, val_magnitude = -1", 32, "trigger.val_magnitude = -1"),
            ("place = { kind = \"grid\" }", good, 32, "place: a trigger of this kind"),
            ("val_alpha = 0.0", good, 32, "val_alpha: a trigger of this kind"),
            ("val_width = 5", good, 32, "val_width: a trigger of this kind"),
            ("recompress = true", good, 32, "recompress = true"),
        ] {
            let error = config(more, trigger).check(view).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
        let config = config("", good);
        assert!(config.check_native(31, 32).is_err() && config.check_native(32, 32).is_ok());
        assert!(config.trigger.build(32).is_err());
    }
}
