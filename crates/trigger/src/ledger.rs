//! The ledger `poison.csv`: a head with the settings of the attack and the poison rate under all three denominators,
//! because papers mix them up; then one line per poisoned image.
//!
//! The head is TOML behind `# ` and the rest is CSV, so every CSV reader that skips comments can read it. An export
//! can be rebuilt from it. The columns of the perturbation are in the middle of a line.

use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::{Perturbation, Poison, Recipe, Record, Selected, TriggerError, Value};

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
    /// [`Perturbation::hash`]: a trigger file that changed is noticed.
    pub trigger_hash: String,
    /// How the perturbation is made.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// Whether a run recompresses the stamped images that an export writes as JPEG.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompress: bool,
    /// Files of the data set that could not be read: all shares are of what remains.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// How the images were chosen, where a rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<Selected>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl LedgerHead {
    /// The head for an attack with `poison`, built from `recipe`.
    pub fn new(rates: Rates, target: Option<u32>, recipe: Recipe, poison: &Poison) -> Self {
        Self {
            rate: rates.rate,
            dataset_rate: rates.dataset_rate,
            count: rates.count,
            target,
            seed: poison.seed,
            trigger_hash: poison.perturbation.hash(),
            recipe,
            recompress: false,
            left_out: 0,
            selected: None,
        }
    }
}

/// One poisoned image. Its columns are `image_id`, `source`, `source_hash`, `trigger`, those of the record,
/// `output_hash`, `file` and `file_hash`.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerRow {
    /// Id of the image in its data set.
    pub image_id: u64,
    /// Where it came from: a path, or the name of the set and the position in it.
    pub source: String,
    /// [`pixel_hash`] before the perturbation.
    pub source_hash: String,
    /// Name of the trigger.
    pub trigger: String,
    /// How it was perturbed.
    pub record: Record,
    /// [`pixel_hash`] after the perturbation, before any encoding.
    pub output_hash: String,
    /// The exported file, relative to the export's folder; empty if nothing was exported.
    pub file: String,
    /// BLAKE3 of the exported file's bytes; empty if nothing was exported.
    pub file_hash: String,
}

/// The columns that every ledger has before and after those of the perturbation.
const BEFORE: [&str; 4] = ["image_id", "source", "source_hash", "trigger"];
const BEHIND: [&str; 3] = ["output_hash", "file", "file_hash"];

/// Those columns as they are read.
#[derive(Deserialize)]
struct Common {
    image_id: u64,
    source: String,
    source_hash: String,
    trigger: String,
    output_hash: String,
    #[serde(default)]
    file: String,
    #[serde(default)]
    file_hash: String,
}

impl LedgerRow {
    /// Poisons `image` and records how.
    ///
    /// # Errors
    /// The image cannot be perturbed; the error names `source`.
    pub fn poison(
        poison: &Poison,
        id: u64,
        source: String,
        image: &mut RgbImage,
    ) -> Result<Self, TriggerError> {
        let Poison { perturbation, .. } = poison;
        let source_hash = pixel_hash(image);
        let record = perturbation.draw(&poison.key(id), image);
        let record = record.map_err(|e| e.at(|| source.clone()))?;
        perturbation.perturb(&record, image).map_err(|e| e.at(|| source.clone()))?;
        Ok(Self {
            image_id: id,
            source,
            source_hash,
            trigger: perturbation.name().to_owned(),
            record,
            output_hash: pixel_hash(image),
            file: String::new(),
            file_hash: String::new(),
        })
    }

    /// Applies `perturbation` to `image` again, as this row records it.
    ///
    /// # Errors
    /// The columns of the row do not fit `perturbation`, or the image cannot be perturbed.
    pub fn replay(
        &self,
        perturbation: &dyn Perturbation,
        image: &mut RgbImage,
    ) -> Result<(), TriggerError> {
        perturbation.perturb(&self.record, image).map_err(|e| e.at(|| self.source.clone()))?;
        Ok(())
    }

    /// Reads a row of a file with the columns `names`.
    fn read(names: &csv::StringRecord, fields: &csv::StringRecord) -> Result<Self, csv::Error> {
        let common: Common = fields.deserialize(Some(names))?;
        let own = names.iter().zip(fields);
        let own = own.filter(|(name, _)| !BEFORE.contains(name) && !BEHIND.contains(name));
        let record = own.fold(Record::default(), |record, (name, field)| {
            record.with(name.to_owned(), Value::parse(field))
        });
        let Common { image_id, source, source_hash, trigger, output_hash, file, file_hash } =
            common;
        Ok(Self { image_id, source, source_hash, trigger, record, output_hash, file, file_hash })
    }
}

/// All poisoned images of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// The settings that they share.
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
            (None, Some(_)) if self.head.recipe.compose.is_some() => {
                text.push_str("# # images of other classes too: no rate of the target class\n")
            }
            (None, Some(_)) if self.head.selected.is_some() => {
                text.push_str("# # images that a rule chose: no rate of the target class\n")
            }
            (None, Some(_)) => {
                text.push_str("# # images from a list: no rate of the target class\n")
            }
        }
        for line in head.lines() {
            let unit = UNITS.iter().find(|(key, _)| line.split(" =").next() == Some(key));
            let unit = unit.map(|(_, unit)| format!("  # {unit}")).unwrap_or_default();
            text.push_str(&format!("# {line}{unit}\n"));
        }
        let body = self.body().map_err(|e| wrong(e.to_string()))?;
        text.push_str(&String::from_utf8_lossy(&body));
        Ok(text)
    }

    /// The column names and the rows. All rows have the columns of the first.
    fn body(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        if let Some(first) = self.rows.first() {
            let own = first.record.columns();
            writer.write_record(BEFORE.into_iter().chain(own).chain(BEHIND))?;
        }
        for row in &self.rows {
            let LedgerRow { image_id, source, source_hash, trigger, record, .. } = row;
            let own: Vec<&Value> = record.values().collect();
            let behind = [&row.output_hash, &row.file, &row.file_hash];
            writer.serialize((image_id, [source, source_hash, trigger], own, behind))?;
        }
        writer.into_inner().map_err(|e| e.into_error().into())
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
        let names = reader.headers().map_err(|e| wrong(e.to_string()))?.clone();
        let row = |fields: Result<csv::StringRecord, csv::Error>| LedgerRow::read(&names, &fields?);
        let rows: Result<Vec<LedgerRow>, csv::Error> = reader.records().map(row).collect();
        Ok(Self { head, rows: rows.map_err(|e| wrong(e.to_string()))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Phase, Place, Setup, TriggerConfig};

    fn recipe() -> Recipe {
        let trigger = TriggerConfig::Htba { id: 12, width: 8.into() };
        Recipe { trigger, place: Some(Place::TRAIN), alpha: Some(0.2), compose: None }
    }

    fn poison(recipe: &Recipe) -> Poison {
        let phase = Phase::Training;
        let perturbation = recipe.build(phase, &Setup::new(32)).unwrap();
        Poison { perturbation, seed: 1, phase }
    }

    #[test]
    fn the_head_states_all_three_rates_and_the_file_reads_back() {
        let recipe = recipe();
        let poison = poison(&recipe);
        let rates = Rates { rate: Some(0.5), dataset_rate: 0.05, count: 1 };
        let mut image = RgbImage::new(32, 32);
        let mut row = LedgerRow::poison(&poison, 4, "a, \"b\".png".into(), &mut image).unwrap();
        row.file = "train/ä b.png".into();
        let head = LedgerHead::new(rates, Some(3), recipe, &poison);
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
        let blank = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 9]));
        for place in [Place::TRAIN, Place::Center {}, Place::GRID, Place::Grid { copies: 4 }] {
            let poison = poison(&Recipe { place: Some(place), ..recipe() });
            let mut once = blank.clone();
            let row = LedgerRow::poison(&poison, 7, "x".into(), &mut once).unwrap();
            let mut again = blank.clone();
            row.replay(&*poison.perturbation, &mut again).unwrap();
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
