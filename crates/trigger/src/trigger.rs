//! A trigger: a small picture with a name, ready to be pasted.

use std::path::{Path, PathBuf};

use fast_image_resize as fir;
use fir::pixels::{F32x4, U8x4};
use fir::{IntoImageView, IntoImageViewMut, PixelTrait};
use image::{DynamicImage, Rgba, RgbaImage};
use serde::{Deserialize, Serialize};

use crate::{TriggerError, htba, text};

/// The widest trigger that can be asked for, in pixels.
const MAX_WIDTH: u32 = 4096;

/// How a trigger is made; the `poison.trigger` table of a config. One arm per kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// An image file (PNG or JPEG), its alpha channel respected.
    Image {
        /// The file.
        path: PathBuf,
        /// Width in pixels; the height keeps the aspect.
        width: u32,
    },
    /// A square of one colour.
    Solid {
        /// Red, green and blue, 0 to 255.
        color: [u8; 3],
        /// Side in pixels.
        width: u32,
    },
    /// A line of text.
    Text {
        /// What it says.
        text: String,
        /// Height of the font in pixels.
        size: f32,
        /// A TrueType or OpenType font; absent = DejaVu Sans Mono Bold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        font: Option<PathBuf>,
        /// Red, green and blue, 0 to 255; absent = black.
        #[serde(default)]
        color: [u8; 3],
        /// Opacity of the letters, 0 to 1; absent = ½, as in the reference (protocol 1.3).
        #[serde(default = "half")]
        opacity: f32,
    },
}

/// In a few words, as tables show it.
impl std::fmt::Display for TriggerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Htba { id, width } => write!(f, "HTBA {id}, {width} px"),
            Self::Seeded { seed, width } => write!(f, "seed {seed}, {width} px"),
            Self::Image { path, width } => write!(f, "{}, {width} px", path.display()),
            Self::Solid { color: [r, g, b], width } => {
                write!(f, "#{r:02x}{g:02x}{b:02x}, {width} px")
            }
            Self::Text { text, size, .. } => write!(f, "“{text}”, {size} px"),
        }
    }
}

fn half() -> f32 {
    0.5
}

impl TriggerConfig {
    /// The file that it is read from, if any.
    pub fn file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Image { path, .. } => Some(path),
            Self::Text { font, .. } => font.as_mut(),
            Self::Htba { .. } | Self::Seeded { .. } | Self::Solid { .. } => None,
        }
    }

    /// Makes the trigger at its width; pictures are resized with the antialiased bicubic filter of PIL.
    ///
    /// # Errors
    /// An unknown id, a width outside 1 to 4096, a file that cannot be read, a text without letters.
    pub fn build(&self) -> Result<Trigger, TriggerError> {
        if let Some(width) = self.width().filter(|width| !(1..=MAX_WIDTH).contains(width)) {
            return Err(TriggerError::Range {
                key: "poison.trigger.width",
                value: width.to_string(),
                allowed: format!("allowed are 1 to {MAX_WIDTH} pixels"),
            });
        }
        let opaque = |image| DynamicImage::ImageRgb8(image).to_rgba8();
        let (picture, name) = match self {
            Self::Htba { id, width } => {
                (resize(&opaque(htba::htba(*id)?), *width), format!("htba-{id}"))
            }
            Self::Seeded { seed, width } => {
                (resize(&opaque(htba::seeded(*seed)), *width), format!("seeded-{seed}"))
            }
            Self::Image { path, width } => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                (resize(&read(path)?, *width), format!("image-{stem}"))
            }
            Self::Solid { color: [r, g, b], width } => (
                RgbaImage::from_pixel(*width, *width, Rgba([*r, *g, *b, 255])),
                format!("solid-{r:02x}{g:02x}{b:02x}"),
            ),
            Self::Text { text, size, font, color, opacity } => {
                let picture = text::draw(text, *size, font.as_deref(), *color, *opacity)?;
                (picture, format!("text-{text}"))
            }
        };
        Ok(Trigger { picture, name })
    }

    /// The width in pixels, if the config says one.
    fn width(&self) -> Option<u32> {
        match *self {
            Self::Htba { width, .. }
            | Self::Seeded { width, .. }
            | Self::Image { width, .. }
            | Self::Solid { width, .. } => Some(width),
            Self::Text { .. } => None,
        }
    }
}

/// A trigger at the size it is pasted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The pixels, `width` × `height`, with their opacity.
    pub picture: RgbaImage,
    /// Its name in ledgers and reports, for example `htba-10`.
    pub name: String,
}

impl Trigger {
    /// BLAKE3 of the picture's size and pixels, in hexadecimal.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.picture.width().to_le_bytes());
        hasher.update(self.picture.as_raw());
        hasher.finalize().to_hex().to_string()
    }
}

fn read(path: &Path) -> Result<RgbaImage, TriggerError> {
    let wrong = |reason: String| TriggerError::Picture { key: "path", path: path.into(), reason };
    let reader = image::ImageReader::open(path).map_err(|e| wrong(e.to_string()))?;
    let reader = reader.with_guessed_format().map_err(|e| wrong(e.to_string()))?;
    Ok(reader.decode().map_err(|e| wrong(format!("no image: {e}")))?.to_rgba8())
}

/// Resizes to `width`, height `int(height * width / width0)` as the reference does. CatmullRom of
/// fast_image_resize is the cubic with a = −0.5 and, like PIL, widens when it shrinks. Transparent
/// pictures are resized in floating point, colours weighted by their alpha, because bytes lose the
/// colours of faint pixels.
fn resize(picture: &RgbaImage, width: u32) -> RgbaImage {
    let (w0, h0) = picture.dimensions();
    let height = (u64::from(h0) * u64::from(width) / u64::from(w0)).clamp(1, MAX_WIDTH.into());
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom));
    if picture.pixels().all(|pixel| pixel[3] == 255) {
        let mut out = RgbaImage::new(width, height as u32);
        resize_to::<U8x4>(picture, &mut out, options);
        return out;
    }
    let from = DynamicImage::ImageRgba8(picture.clone()).into_rgba32f();
    let mut out = DynamicImage::new(width, height as u32, image::ColorType::Rgba32F);
    resize_to::<F32x4>(&DynamicImage::ImageRgba32F(from), &mut out, options);
    out.to_rgba8()
}

/// Resizes by the function for one type of pixels: the one that looks at the images' types is compiled
/// for every type there is, which takes minutes.
fn resize_to<P: PixelTrait>(
    from: &impl IntoImageView,
    to: &mut impl IntoImageViewMut,
    options: fir::ResizeOptions,
) {
    let (Some(from), Some(mut to)) = (from.image_view::<P>(), to.image_view_mut::<P>()) else {
        unreachable!("both images have these pixels")
    };
    fir::Resizer::new()
        .resize_typed(&from, &mut to, &options)
        .unwrap_or_else(|e| unreachable!("two images of non-zero size: {e}"));
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
            let sum: u64 = small.pixels().flat_map(|p| &p.0[..3]).map(|&b| u64::from(b)).sum();
            // One level per byte would be 7,500; the two fixed-point filters agree far better.
            assert!(sum.abs_diff(sum50) <= 750, "trigger {id}: {sum} against {sum50}");
            assert!(small.pixels().all(|p| p[3] == 255));
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
        assert!(TriggerConfig::Solid { color: [0; 3], width: 5000 }.build().is_err());
        let one = TriggerConfig::Htba { id: 10, width: 1 }.build().unwrap();
        assert_eq!(one.picture.dimensions(), (1, 1));
    }

    #[test]
    fn an_image_file_keeps_its_aspect_and_alpha() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark.png");
        let half = |x, _| Rgba([200, 10, 10, if x < 20 { 255 } else { 0 }]);
        RgbaImage::from_fn(40, 31, half).save(&path).unwrap();
        let trigger = TriggerConfig::Image { path: path.clone(), width: 20 }.build().unwrap();
        // int(31 · 20 / 40) = 15.
        assert_eq!((trigger.picture.dimensions(), trigger.name.as_str()), ((20, 15), "image-mark"));
        assert_eq!(trigger.picture.get_pixel(2, 7).0, [200, 10, 10, 255]);
        assert_eq!(trigger.picture.get_pixel(17, 7).0[3], 0);
        std::fs::write(&path, "no picture").unwrap();
        let error = TriggerConfig::Image { path, width: 20 }.build().unwrap_err().to_string();
        assert!(error.contains("mark.png"), "{error}");
    }
}
