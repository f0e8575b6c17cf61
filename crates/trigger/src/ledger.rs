//! The ledger `poison.csv`: a head that says what was done under which settings, with the poison rate
//! under all three denominators because papers mix them up, and a line per poisoned image.
//!
//! The head is TOML behind `# `, the rest CSV: every CSV reader that skips comments reads it, and an
//! export can be rebuilt from it.

use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::{Place, Poison, Spot, Trigger, TriggerConfig, TriggerError, stamp};

/// A poison rate under its three denominators.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Share of the target class, 0 to 1; none in an untargeted attack, or if other images are poisoned.
    pub rate: Option<f64>,
    /// Share of the whole training set, 0 to 1.
    pub dataset_rate: f64,
    /// Number of poisoned images.
    pub count: usize,
}

/// What all images of a ledger share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// Share of the target class, 0 to 1; absent in an untargeted attack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Share of the whole set, 0 to 1.
    pub dataset_rate: f64,
    /// Number of images.
    pub count: usize,
    /// The target class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// Seed of the choice and of the places.
    pub seed: u64,
    /// How the trigger is made.
    pub trigger: TriggerConfig,
    /// [`Trigger::hash`]: a trigger file that changed is noticed.
    pub trigger_hash: String,
    /// How the places were chosen.
    pub place: Place,
    /// Weight of the base image under the patch.
    pub alpha: f64,
    /// Whether a run recompresses the stamped images that an export writes as JPEG.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompress: bool,
    /// Files of the data set that could not be read: all shares are of what remains.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl LedgerHead {
    /// Of an attack with `poison`, made as `trigger` says.
    pub fn new(
        rates: Rates,
        target: Option<u32>,
        trigger: &TriggerConfig,
        poison: &Poison,
    ) -> Self {
        Self {
            rate: rates.rate,
            dataset_rate: rates.dataset_rate,
            count: rates.count,
            target,
            seed: poison.seed,
            trigger: trigger.clone(),
            trigger_hash: poison.trigger.hash(),
            place: poison.place,
            alpha: poison.alpha,
            recompress: false,
            left_out: 0,
        }
    }
}

/// One poisoned image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Id of the image in its data set.
    pub image_id: u64,
    /// Where it came from: a path, or the name of the set and the position in it.
    pub source: String,
    /// [`pixel_hash`] before.
    pub source_hash: String,
    /// Name of the trigger.
    pub trigger: String,
    /// Left edge of the patch (of the first copy), in pixels.
    pub x: u32,
    /// Top edge of the patch (of the first copy), in pixels.
    pub y: u32,
    /// Width of the patch, in pixels.
    pub width: u32,
    /// Weight of the base image under the patch.
    pub alpha: f64,
    /// [`pixel_hash`] after, before any encoding.
    pub output_hash: String,
    /// The exported file, relative to the export's folder; empty if nothing was exported.
    #[serde(default)]
    pub file: String,
    /// BLAKE3 of the exported file's bytes; empty if nothing was exported.
    #[serde(default)]
    pub file_hash: String,
}

impl LedgerRow {
    /// Poisons `image` and writes down what was done.
    pub fn poison(poison: &Poison, id: u64, source: String, image: &mut RgbImage) -> Self {
        let source_hash = pixel_hash(image);
        let spots = poison.apply(id, image);
        let (x, y, width) = spots.first().map_or((0, 0, 0), |spot| (spot.x, spot.y, spot.width));
        Self {
            image_id: id,
            source,
            source_hash,
            trigger: poison.trigger.name.clone(),
            x,
            y,
            width,
            alpha: poison.alpha,
            output_hash: pixel_hash(image),
            file: String::new(),
            file_hash: String::new(),
        }
    }

    /// Does to `image` again what this row says was done to it. A grid's copies follow from `place`,
    /// one patch from the row.
    pub fn replay(&self, trigger: &Trigger, place: Place, image: &mut RgbImage) {
        let picture = trigger.picture(image.dimensions());
        let (width, height) = picture.dimensions();
        let spots = match place {
            Place::Grid => {
                let mut unused = crate::chance::rng(0, crate::chance::Purpose::TrainSpot, 0, 0, 0);
                place.spots(image.dimensions(), (width, height), &mut unused)
            }
            _ => vec![Spot { x: self.x, y: self.y, width, height }],
        };
        spots.into_iter().for_each(|spot| stamp(image, &picture, spot, self.alpha));
    }
}

/// All poisoned images of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// What they share.
    pub head: LedgerHead,
    /// One row per image, ascending by id.
    pub rows: Vec<LedgerRow>,
}

/// BLAKE3 of width, height (little-endian) and the raw RGB bytes, in hexadecimal.
pub fn pixel_hash(image: &RgbImage) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&image.width().to_le_bytes());
    hasher.update(&image.height().to_le_bytes());
    hasher.update(image.as_raw());
    hasher.finalize().to_hex().to_string()
}

const UNITS: [(&str, &str); 4] = [
    ("rate", "share of the target class"),
    ("dataset_rate", "share of the set"),
    ("count", "images"),
    ("left_out", "files that cannot be read; the shares are of what remains"),
];

impl Ledger {
    /// The file's text: the head, the column names, a line per image.
    ///
    /// # Errors
    /// [`TriggerError::Ledger`] if a row cannot be written as CSV; `path` names the file in it.
    pub fn to_csv(&self, path: &Path) -> Result<String, TriggerError> {
        let wrong = |reason: String| TriggerError::Ledger { path: path.into(), reason };
        let head = toml::to_string(&self.head).map_err(|e| wrong(e.to_string()))?;
        let mut text = String::new();
        match (self.head.rate, self.head.target) {
            (Some(_), _) => {}
            (None, None) => text.push_str("# # untargeted: no rate of a target class\n"),
            (None, Some(_)) => {
                text.push_str("# # images from a list: no rate of the target class\n")
            }
        }
        for line in head.lines() {
            let unit = UNITS.iter().find(|(key, _)| line.split(" =").next() == Some(key));
            let unit = unit.map(|(_, unit)| format!("  # {unit}")).unwrap_or_default();
            text.push_str(&format!("# {line}{unit}\n"));
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in &self.rows {
            writer.serialize(row).map_err(|e| wrong(e.to_string()))?;
        }
        let body = writer.into_inner().map_err(|e| wrong(e.to_string()))?;
        text.push_str(&String::from_utf8_lossy(&body));
        Ok(text)
    }

    /// Reads a ledger's text; `path` names it in errors.
    ///
    /// # Errors
    /// [`TriggerError::Ledger`] with the line and what is wrong with it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, TriggerError> {
        let wrong = |reason: String| TriggerError::Ledger { path: path.into(), reason };
        let head: String = text
            .lines()
            .map_while(|line| line.strip_prefix('#'))
            .flat_map(|line| [line.strip_prefix(' ').unwrap_or(line), "\n"])
            .collect();
        let head = toml::from_str(&head).map_err(|e| wrong(format!("in the head: {e}")))?;
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        let rows: Result<Vec<LedgerRow>, csv::Error> = reader.deserialize().collect();
        Ok(Self { head, rows: rows.map_err(|e| wrong(e.to_string()))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Purpose;

    fn poison() -> (TriggerConfig, Poison) {
        let trigger = TriggerConfig::Htba { id: 12, width: 8.into() };
        let built = trigger.build(32).unwrap();
        let purpose = Purpose::TrainSpot;
        (trigger, Poison { trigger: built, place: Place::TRAIN, alpha: 0.2, seed: 1, purpose })
    }

    #[test]
    fn the_head_states_all_three_rates_and_the_file_reads_back() {
        let (trigger, poison) = poison();
        let rates = Rates { rate: Some(0.5), dataset_rate: 0.05, count: 1 };
        let mut image = RgbImage::new(32, 32);
        let mut row = LedgerRow::poison(&poison, 4, "a, \"b\".png".into(), &mut image);
        row.file = "train/ä b.png".into();
        let head = LedgerHead::new(rates, Some(3), &trigger, &poison);
        let ledger = Ledger { head, rows: vec![row] };
        let text = ledger.to_csv(Path::new("poison.csv")).unwrap();
        assert!(text.starts_with(
            "# rate = 0.5  # share of the target class\n# dataset_rate = 0.05  # share of the set\n\
             # count = 1  # images\n"
        ), "{text}");
        assert_eq!(Ledger::parse(&text, Path::new("poison.csv")).unwrap(), ledger);
        let mut untargeted = ledger;
        (untargeted.head.rate, untargeted.head.target) = (None, None);
        untargeted.head.target = Some(3);
        let listed = untargeted.to_csv(Path::new("poison.csv")).unwrap();
        assert!(listed.starts_with("# # images from a list"), "{listed}");
        assert_eq!(Ledger::parse(&listed, Path::new("poison.csv")).unwrap(), untargeted);
        untargeted.head.target = None;
        let text = untargeted.to_csv(Path::new("poison.csv")).unwrap();
        assert!(text.contains("untargeted"));
        assert_eq!(Ledger::parse(&text, Path::new("poison.csv")).unwrap(), untargeted);
        for broken in [
            "",
            "image_id\n4\n",
            &text.replace("dataset_rate", "datset_rate"),
            &text[..text.len() - 90],
        ] {
            let error = Ledger::parse(broken, Path::new("my.csv")).unwrap_err().to_string();
            assert!(error.starts_with("my.csv"), "{error}");
        }
    }

    #[test]
    fn a_row_can_be_replayed() {
        let (_, mut poison) = poison();
        let blank = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 9]));
        for place in [Place::TRAIN, Place::Center, Place::Grid] {
            poison.place = place;
            let mut once = blank.clone();
            let row = LedgerRow::poison(&poison, 7, "x".into(), &mut once);
            let mut again = blank.clone();
            row.replay(&poison.trigger, place, &mut again);
            assert_eq!(once, again);
            assert_eq!((row.source_hash, row.output_hash), (pixel_hash(&blank), pixel_hash(&once)));
        }
    }

    #[test]
    fn the_hash_sees_size_and_pixels() {
        let a = RgbImage::new(4, 2);
        let mut b = a.clone();
        b.get_pixel_mut(3, 1).0[2] = 1;
        assert_ne!(pixel_hash(&a), pixel_hash(&RgbImage::new(2, 4)));
        assert_ne!(pixel_hash(&a), pixel_hash(&b));
    }
}
