//! The picture of a patch, rendered at the size for an image.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use image::RgbaImage;
use ssl_backdoor_images::decode_rgba;

use crate::{Size, TriggerError, resize, text};

/// Largest width of a trigger, in pixels.
pub(crate) const MAX_WIDTH: u32 = 4096;

/// What a trigger's picture is made from.
#[derive(Debug)]
pub(crate) enum Art {
    Picture(RgbaImage),
    Letters(text::Letters),
}

impl Art {
    /// The picture, `pixels` wide, or drawn in a font `pixels` high.
    fn at(&self, pixels: f64) -> RgbaImage {
        match self {
            Self::Picture(picture) => {
                let width = pixels.round().clamp(1.0, MAX_WIDTH.into()) as u32;
                resize::picture(picture, (width, height(picture.dimensions(), width)))
            }
            Self::Letters(letters) => letters.draw(pixels as f32),
        }
    }
}

/// Largest number of pictures that a trigger keeps in memory; images rarely come in more sizes than this.
const KEPT: usize = 64;

/// A trigger: its picture at any size.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// Its name in ledgers and reports, for example `htba-10`.
    pub name: String,
    art: Arc<Art>,
    size: Size,
    view: u32,
    /// The rendered pictures, by their size in pixels (the bits of the number).
    made: Arc<Mutex<HashMap<u64, Arc<RgbaImage>>>>,
}

impl Trigger {
    /// A trigger of `size`, where views are `view` pixels a side.
    pub(crate) fn new(art: Art, name: String, size: Size, view: u32) -> Self {
        Self { art: Arc::new(art), size, view, name, made: Arc::default() }
    }

    /// The picture for an image of (width, height) pixels, with its opacity. Pictures are resized with the antialiased
    /// bicubic filter of PIL.
    pub fn picture(&self, (width, height): (u32, u32)) -> Arc<RgbaImage> {
        let pixels = self.size.on(width.min(height), self.view);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(picture) = made.get(&pixels.to_bits()) {
            return picture.clone();
        }
        let picture = Arc::new(self.art.at(pixels));
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(pixels.to_bits(), picture.clone());
        picture
    }

    /// Height of the picture when it is `width` pixels wide; for a text of relative size, by its proportions.
    pub fn height(&self, width: u32) -> u32 {
        match (&*self.art, self.size) {
            (Art::Letters(_), Size::Pixels(_)) => self.picture((1, 1)).height(),
            (Art::Letters(letters), _) => height(letters.draw(512.0).dimensions(), width),
            (Art::Picture(picture), _) => height(picture.dimensions(), width),
        }
    }

    /// Its width in the names of exported folders and lists.
    pub(crate) fn width_in_names(&self) -> String {
        match self.size {
            Size::Pixels(_) => self.picture((1, 1)).width().to_string(),
            Size::View(pixels) => format!("view-{pixels}"),
            Size::Share(share) => format!("share-{share}"),
        }
    }

    /// Its size as configured.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The config field of its size.
    pub(crate) fn size_field(&self) -> &'static str {
        match *self.art {
            Art::Letters(_) => "trigger.size",
            Art::Picture(_) => "trigger.width",
        }
    }

    /// BLAKE3 of the picture's width and pixels, in hexadecimal. A picture of relative size is rendered for an image
    /// of 256 pixels a side.
    pub fn hash(&self) -> String {
        let picture = self.picture((256, 256));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&picture.width().to_le_bytes());
        hasher.update(picture.as_raw());
        hasher.finalize().to_hex().to_string()
    }
}

/// Reads the picture in `path`.
pub(crate) fn read(path: &Path) -> Result<RgbaImage, TriggerError> {
    let wrong =
        |reason: String| TriggerError::Picture { field: "trigger.path", path: path.into(), reason };
    let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    decode_rgba(&bytes).map_err(|e| wrong(e.to_string()))
}

/// The height of a picture of (width, height) when it is resized to `width`: `int(height * width / width0)`, as in
/// the reference.
fn height((w0, h0): (u32, u32), width: u32) -> u32 {
    (u64::from(h0) * u64::from(width) / u64::from(w0.max(1))).clamp(1, MAX_WIDTH.into()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HTBA_IDS, TriggerConfig, htba};
    use image::Rgba;

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
            let small =
                TriggerConfig::Htba { id, width: 50.into() }.build(224).unwrap().picture((1, 1));
            let sum: u64 = small.pixels().flat_map(|p| &p.0[..3]).map(|&b| u64::from(b)).sum();
            // One level per byte would be 7,500; the two fixed-point filters agree far better.
            assert!(sum.abs_diff(sum50) <= 750, "trigger {id}: {sum} against {sum50}");
            assert!(small.pixels().all(|p| p[3] == 255));
        }
    }

    #[test]
    fn field_f07_the_picture_follows_the_image_where_the_size_is_relative() {
        let side = |size: Size, image| {
            let trigger = TriggerConfig::Htba { id: 10, width: size }.build(32).unwrap();
            trigger.picture(image).dimensions()
        };
        assert_eq!(side(8.into(), (500, 375)), (8, 8));
        assert_eq!(side(Size::View(8.0), (500, 375)), (94, 94));
        assert_eq!(side(Size::View(8.0), (32, 32)), (8, 8));
        assert_eq!(side(Size::Share(0.1), (375, 500)), (38, 38));
        assert_eq!(side(Size::Share(0.001), (375, 500)), (1, 1));
        let text = |size: &str| {
            let config = format!("kind = \"text\"\ntext = \"HH\"\nsize = {size}");
            let config: TriggerConfig = toml::from_str(&config).unwrap();
            config.build(32).unwrap()
        };
        let relative = text("{ share = 0.1 }");
        let fixed = text("30");
        assert_eq!(relative.picture((300, 400)), fixed.picture((32, 32)));
        // Far too small to draw, so the smallest font is used.
        assert!(relative.picture((10, 10)).width() > 1);
    }

    #[test]
    fn seeds_give_different_triggers() {
        assert_eq!(htba::seeded(1), htba::seeded(1));
        assert_ne!(htba::seeded(1), htba::seeded(2));
    }

    #[test]
    fn widths_and_ids_are_checked() {
        let htba = |id, width| TriggerConfig::Htba { id, width }.build(32);
        assert!(htba(9, 8.into()).is_err());
        assert!(htba(10, 0.into()).is_err());
        assert!(htba(10, Size::Pixels(8.5)).is_err());
        assert!(TriggerConfig::Solid { color: [0; 3], width: 5000.into() }.build(32).is_err());
        assert_eq!(htba(10, 1.into()).unwrap().picture((9, 9)).dimensions(), (1, 1));
    }

    #[test]
    fn an_image_file_keeps_its_aspect_and_alpha() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark.png");
        let half = |x, _| Rgba([200, 10, 10, if x < 20 { 255 } else { 0 }]);
        RgbaImage::from_fn(40, 31, half).save(&path).unwrap();
        let trigger = TriggerConfig::Image { path: path.clone(), width: 20.into() };
        let trigger = trigger.build(32).unwrap();
        let picture = trigger.picture((32, 32));
        // int(31 · 20 / 40) = 15.
        assert_eq!((picture.dimensions(), trigger.name.as_str()), ((20, 15), "image-mark"));
        assert_eq!(picture.get_pixel(2, 7).0, [200, 10, 10, 255]);
        assert_eq!(picture.get_pixel(17, 7).0[3], 0);
        std::fs::write(&path, "not a picture").unwrap();
        let error =
            TriggerConfig::Image { path, width: 20.into() }.build(32).unwrap_err().to_string();
        assert!(error.contains("mark.png"), "{error}");
        assert!(error.contains("it contains no image: supported formats are JPEG, PNG"), "{error}");
    }
}
