//! A trigger: a small picture with a name, ready to be pasted.

use fast_image_resize as fir;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::{TriggerError, htba};

/// The widest trigger that can be asked for, in pixels.
const MAX_WIDTH: u32 = 4096;

/// How a trigger is made; the `poison.trigger` table of a config. One arm per kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TriggerConfig {
    /// One of the paper's ten triggers, `id` 10 to 19.
    Htba {
        /// The number of the trigger.
        id: u32,
        /// Width in pixels; the height keeps the aspect.
        width: u32,
    },
    /// A trigger of the same family, drawn from a seed.
    Seeded {
        /// The seed of its 48 colour bits.
        seed: u64,
        /// Width in pixels; the height keeps the aspect.
        width: u32,
    },
}

impl TriggerConfig {
    /// Draws the trigger and resizes it to its width with the antialiased bicubic filter of PIL.
    ///
    /// # Errors
    /// An unknown id, or a width outside 1 to 4096.
    pub fn build(&self) -> Result<Trigger, TriggerError> {
        let (picture, width, name) = match *self {
            Self::Htba { id, width } => (htba::htba(id)?, width, format!("htba-{id}")),
            Self::Seeded { seed, width } => (htba::seeded(seed), width, format!("seeded-{seed}")),
        };
        if !(1..=MAX_WIDTH).contains(&width) {
            return Err(TriggerError::Width { width, max: MAX_WIDTH });
        }
        Ok(Trigger { picture: resize(&picture, width), name })
    }

    /// The width in pixels.
    pub fn width(&self) -> u32 {
        match *self {
            Self::Htba { width, .. } | Self::Seeded { width, .. } => width,
        }
    }
}

/// A trigger at the size it is pasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The pixels, `width` × `height`.
    pub picture: RgbImage,
    /// Its name in ledgers and reports, for example `htba-10`.
    pub name: String,
}

/// Resizes to `width`, height `int(height * width / width0)` as the reference does. CatmullRom of
/// fast_image_resize is the cubic with a = −0.5 and, like PIL, widens when it shrinks.
fn resize(picture: &RgbImage, width: u32) -> RgbImage {
    let (w0, h0) = picture.dimensions();
    let height = (h0 * width / w0).max(1);
    let mut out = RgbImage::new(width, height);
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom));
    fir::Resizer::new()
        .resize(picture, &mut out, &options)
        .unwrap_or_else(|e| unreachable!("two RGB images of non-zero size: {e}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HTBA_IDS;

    /// Channel means and byte sums at 50×50 of the published triggers (the sums by Pillow 13).
    const PUBLISHED: [([f64; 3], u64); 10] = [
        ([112.1, 127.5, 126.6], 915_638),
        ([50.9, 81.8, 156.7], 723_484),
        ([158.9, 67.4, 97.6], 809_757),
        ([128.8, 127.9, 173.6], 1_075_514),
        ([112.8, 157.6, 99.0], 923_438),
        ([113.3, 142.8, 84.0], 850_480),
        ([127.5, 145.4, 111.4], 960_929),
        ([141.8, 83.5, 125.3], 876_683),
        ([141.9, 172.0, 141.9], 1_139_666),
        ([131.0, 82.5, 141.8], 888_329),
    ];

    #[test]
    fn means_and_resized_sums_are_the_published_ones() {
        for (id, (means, sum50)) in HTBA_IDS.zip(PUBLISHED) {
            let full = htba::htba(id).unwrap();
            for (channel, expected) in means.iter().enumerate() {
                let total: f64 = full.pixels().map(|p| f64::from(p[channel])).sum();
                let mean = total / f64::from(80 * 80);
                assert!((mean - expected).abs() <= 0.05, "trigger {id} channel {channel}: {mean}");
            }
            let small = TriggerConfig::Htba { id, width: 50 }.build().unwrap().picture;
            let sum: u64 = small.as_raw().iter().map(|&b| u64::from(b)).sum();
            // One level per byte would be 7,500; the two fixed-point filters agree far better.
            assert!(sum.abs_diff(sum50) <= 750, "trigger {id}: {sum} against {sum50}");
        }
    }

    #[test]
    fn seeds_give_different_triggers() {
        assert_eq!(htba::seeded(1), htba::seeded(1));
        assert_ne!(htba::seeded(1), htba::seeded(2));
    }

    #[test]
    fn widths_and_ids_are_checked() {
        assert!(TriggerConfig::Htba { id: 9, width: 8 }.build().is_err());
        assert!(TriggerConfig::Htba { id: 10, width: 0 }.build().is_err());
        let one = TriggerConfig::Htba { id: 10, width: 1 }.build().unwrap();
        assert_eq!(one.picture.dimensions(), (1, 1));
    }
}
