//! The ledger `poison.csv`: one line per poisoned image with what was done to it, and the poison
//! rate under all three denominators in the head, because papers mix them up.

use std::fmt::Write as _;
use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::TriggerError;

/// A poison rate under its three denominators.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Share of the target class, 0 to 1.
    pub rate: f64,
    /// Share of the whole training set, 0 to 1.
    pub dataset_rate: f64,
    /// Number of poisoned images.
    pub count: usize,
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
    /// Left edge of the patch, in pixels.
    pub x: u32,
    /// Top edge of the patch, in pixels.
    pub y: u32,
    /// Width of the patch, in pixels.
    pub width: u32,
    /// Weight of the base image under the patch.
    pub alpha: f64,
    /// [`pixel_hash`] after.
    pub output_hash: String,
}

/// All poisoned images of a training set.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// How much is poisoned.
    pub rates: Rates,
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

impl Ledger {
    /// The file's text: three comment lines with the rates, a header, a line per image.
    ///
    /// # Errors
    /// [`TriggerError::Ledger`] if a row cannot be written as CSV; `path` names the file in it.
    pub fn to_csv(&self, path: &Path) -> Result<String, TriggerError> {
        let wrong = |reason: String| TriggerError::Ledger { path: path.into(), reason };
        let Rates { rate, dataset_rate, count } = self.rates;
        let mut text = String::new();
        let _ = writeln!(text, "# rate = {rate} of the target class");
        let _ = writeln!(text, "# dataset_rate = {dataset_rate} of the training set");
        let _ = writeln!(text, "# count = {count} images");
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in &self.rows {
            writer.serialize(row).map_err(|e| wrong(e.to_string()))?;
        }
        let body = writer.into_inner().map_err(|e| wrong(e.to_string()))?;
        text.push_str(&String::from_utf8_lossy(&body));
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_states_all_three_rates_and_rows_parse_back() {
        let row = LedgerRow {
            image_id: 4,
            source: "a, b.png".into(),
            source_hash: "00".into(),
            trigger: "htba-12".into(),
            x: 8,
            y: 9,
            width: 8,
            alpha: 0.0,
            output_hash: "01".into(),
        };
        let rates = Rates { rate: 0.5, dataset_rate: 0.05, count: 1 };
        let ledger = Ledger { rates, rows: vec![row.clone()] };
        let text = ledger.to_csv(Path::new("poison.csv")).unwrap();
        assert!(text.starts_with(
            "# rate = 0.5 of the target class\n# dataset_rate = 0.05 of the training set\n# count = 1 images\n"
        ));
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        let rows: Vec<LedgerRow> = reader.deserialize().map(Result::unwrap).collect();
        assert_eq!(rows, [row]);
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
