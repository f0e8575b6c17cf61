//! Blending (Chen et al., *Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning*, 2017): a picture laid
//! over the whole image, faint enough to be overlooked.
//!
//! With α the `ratio`, every level becomes (1 − α)·image + α·picture, rounded. The picture is resized to the image
//! with PIL's bicubic filter, whatever its aspect ratio; where it is transparent, its opacity scales α. The paper's
//! random pattern is drawn from a seed: 32 × 32 colours, one for each pixel of an image of 32 pixels a side.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use image::{RgbImage, Rgba, RgbaImage};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_rng::keyed;

use crate::trigger::read;
use crate::{Footprint, Key, Perturbation, Phase, Record, TriggerError, purpose, resize};

/// Side of a seeded pattern, in pixels.
const SIDE: u32 = 32;
/// Largest number of resized pictures in memory; images rarely come in more sizes than this.
const KEPT: usize = 64;

/// The table of the trigger `blend`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blend {
    /// A picture (PNG or JPEG); its alpha channel is respected. Exactly one of `path` and `seed` is needed. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Seed of a random pattern. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Weight of the picture on training images. The paper uses 0.2.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub ratio: f64,
    /// Weight of the picture on evaluation images. Default: `ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub val_ratio: Option<f64>,
}

impl fmt::Display for Blend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.seed) {
            (Some(path), _) => write!(f, "blend of {}", path.display())?,
            (None, seed) => write!(f, "blend of seed {}", seed.unwrap_or_default())?,
        }
        write!(f, ", ratio {}", self.ratio)?;
        match self.val_ratio {
            Some(ratio) => write!(f, " ({ratio} on evaluation images)"),
            None => Ok(()),
        }
    }
}

impl Blend {
    /// The perturbation of images of `phase`.
    pub(crate) fn build(&self, phase: Phase) -> Result<Arc<dyn Perturbation>, TriggerError> {
        let (field, ratio) = match (phase, self.val_ratio) {
            (Phase::Evaluation, Some(ratio)) => ("trigger.val_ratio", ratio),
            _ => ("trigger.ratio", self.ratio),
        };
        require(ratio > 0.0 && ratio <= 1.0, field, ratio, "allowed is 0 < ratio <= 1")?;
        let (name, picture) = match (&self.path, self.seed) {
            (Some(path), None) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                (format!("blend-{stem}"), read(path)?)
            }
            (None, Some(seed)) => (format!("blend-seed-{seed}"), pattern(seed)),
            (path, _) => {
                let found = if path.is_some() { "path and seed" } else { "neither" };
                let allowed = "set exactly one of path and seed, which give the picture";
                return Err(OutOfRange::new("trigger", found, allowed).into());
            }
        };
        Ok(Arc::new(Overlay { name, picture, ratio, made: Mutex::default() }))
    }
}

/// The random pattern of a seed: uniform levels.
fn pattern(seed: u64) -> RgbaImage {
    let mut rng = keyed(seed, purpose::PATTERN, 0, 0, 0);
    RgbaImage::from_fn(SIDE, SIDE, |_, _| {
        let [r, g, b, _] = rng.next_u32().to_le_bytes();
        Rgba([r, g, b, 255])
    })
}

/// A picture over the whole image. It writes the ledger column `ratio`.
#[derive(Debug)]
struct Overlay {
    name: String,
    picture: RgbaImage,
    ratio: f64,
    /// The resized pictures, by size.
    made: Mutex<HashMap<(u32, u32), Arc<RgbaImage>>>,
}

impl Overlay {
    /// The picture, resized to `size`.
    fn at(&self, size: (u32, u32)) -> Arc<RgbaImage> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(picture) = made.get(&size) {
            return picture.clone();
        }
        let picture = Arc::new(resize::picture(&self.picture, size));
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(size, picture.clone());
        picture
    }
}

impl Perturbation for Overlay {
    fn name(&self) -> &str {
        &self.name
    }

    fn draw(&self, _: &Key, _: &RgbImage) -> Result<Record, TriggerError> {
        Ok(Record::default().with("ratio", self.ratio))
    }

    fn perturb(&self, record: &Record, image: &mut RgbImage) -> Result<Footprint, TriggerError> {
        let ratio = record.real("ratio")?;
        if image.is_empty() {
            let reason = "the image has no pixels".into();
            return Err(TriggerError::Image { image: "an image".into(), reason });
        }
        let picture = self.at(image.dimensions());
        for (base, ink) in image.pixels_mut().zip(picture.pixels()) {
            let [ink @ .., opacity] = ink.0;
            let weight = ratio * f64::from(opacity) / 255.0;
            for (level, ink) in base.0.iter_mut().zip(ink) {
                let mixed = (1.0 - weight) * f64::from(*level) + weight * f64::from(ink);
                *level = mixed.round().clamp(0.0, 255.0) as u8;
            }
        }
        Ok(Footprint::Whole)
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"blend");
        hasher.update(&self.ratio.to_le_bytes());
        hasher.update(&self.picture.width().to_le_bytes());
        hasher.update(self.picture.as_raw());
        hasher.finalize().to_hex().to_string()
    }

    fn stem(&self, _: Phase) -> String {
        format!("blend_ratio_{}", self.ratio)
    }

    fn check(&self, _: u32, _: &str) -> Result<(), TriggerError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PoisonConfig, strength};
    use image::Rgb;

    const KEY: Key = Key { seed: 0, phase: Phase::Training, id: 0 };

    fn config(trigger: &str) -> PoisonConfig {
        toml::from_str(&format!("count = 1\ntrigger = {{ kind = \"blend\", {trigger} }}")).unwrap()
    }

    #[test]
    fn levels_are_mixed_by_hand() {
        // A quarter of (200, 10, 255, half opaque): its weight is 0.25 · 128 / 255 = 0.12549.
        let picture = RgbaImage::from_pixel(2, 2, Rgba([200, 10, 255, 128]));
        let overlay = Overlay { name: String::new(), picture, ratio: 0.25, made: Mutex::default() };
        let mut image = RgbImage::from_pixel(3, 5, Rgb([100, 100, 0]));
        assert_eq!(overlay.apply(&KEY, &mut image).unwrap(), Footprint::Whole);
        // 100 + 12.549, 100 − 11.294 and 32.0.
        assert!(image.pixels().all(|pixel| pixel.0 == [113, 89, 32]), "{image:?}");
    }

    #[test]
    fn a_pattern_has_a_colour_for_each_pixel_of_a_small_image() {
        let blend = Blend { path: None, seed: Some(3), ratio: 1.0, val_ratio: None };
        let mut image = RgbImage::new(32, 32);
        blend.build(Phase::Training).unwrap().apply(&KEY, &mut image).unwrap();
        let pattern = pattern(3);
        let same = |(a, b): (&Rgb<u8>, &Rgba<u8>)| a.0 == b.0[..3];
        assert!(image.pixels().zip(pattern.pixels()).all(same));
        assert_ne!(pattern, super::pattern(4));
        // Uniform levels: mean 127.5 ± 4 standard errors.
        let levels = image.as_raw().iter().map(|&level| f64::from(level));
        let mean = levels.sum::<f64>() / image.as_raw().len() as f64;
        assert!((mean - 127.5).abs() < 4.0 * 73.9 / (3072f64).sqrt(), "{mean}");
        // Other sizes have the same pattern, stretched.
        let mut wide = RgbImage::new(64, 40);
        let footprint = blend.build(Phase::Training).unwrap().apply(&KEY, &mut wide).unwrap();
        assert_eq!((footprint, wide.dimensions()), (Footprint::Whole, (64, 40)));
    }

    #[test]
    fn both_phases_have_a_ratio() {
        let config = config("seed = 3, ratio = 0.1, val_ratio = 0.2");
        config.check(32).unwrap();
        let shown = config.trigger.to_string();
        assert_eq!(shown, "blend of seed 3, ratio 0.1 (0.2 on evaluation images)");
        assert_eq!(strength(&shown), "ratio 0.1 (0.2 on evaluation images)");
        let attack = config.attack(&[(1, 0)], &["cat".into()], 0, 32).unwrap();
        for (phase, ratio) in [(Phase::Training, 0.1), (Phase::Evaluation, 0.2)] {
            let poison = attack.poison(phase);
            let record = poison.perturbation.draw(&poison.key(1), &RgbImage::new(8, 8)).unwrap();
            assert_eq!(record, Record::default().with("ratio", ratio));
            assert_eq!(poison.perturbation.stem(phase), format!("blend_ratio_{ratio}"));
        }
        assert_eq!(attack.train.perturbation.name(), "blend-seed-3");
        assert_ne!(attack.train.perturbation.hash(), attack.val.perturbation.hash());
        let written = toml::to_string(&config).unwrap();
        assert!(!written.contains("place") && !written.contains("path"), "{written}");
        assert_eq!(toml::from_str::<PoisonConfig>(&written).unwrap(), config);
    }

    #[test]
    fn wrong_settings_are_named() {
        for (trigger, words) in [
            ("seed = 3, ratio = 0", "trigger.ratio = 0"),
            ("seed = 3, ratio = nan", "trigger.ratio = NaN"),
            ("seed = 3, ratio = 0.5, val_ratio = 1.5", "trigger.val_ratio = 1.5"),
            ("ratio = 0.5", "trigger = neither"),
            ("seed = 3, path = \"a.png\", ratio = 0.5", "trigger = path and seed"),
            ("path = \"/no/file.png\", ratio = 0.5", "trigger.path: /no/file.png"),
        ] {
            let error = config(trigger).check(32).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
