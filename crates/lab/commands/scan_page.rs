//! What `scan data` writes: a page to look at, the ranking as CSV, and lists of what is suspected and what is left.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use askama::Template;
use image::{RgbImage, imageops};
use ssl_backdoor_data::{SampleSet, list_text};
use ssl_backdoor_scan::{AtK, Evidence, Findings, Patch, Scored};

use super::scan_images::ScanImages;
use crate::report::data_uri;
use crate::run::RunFolder;

/// Images and patches on the page.
const SHOWN: usize = 60;
/// What the scan cannot see.
const BLIND: [&str; 4] = [
    "Triggers that cover the whole image, such as blended pictures or frequencies, are not seen: the search looks for patches.",
    "Patches much larger or smaller than the window are seen badly, and so is a backdoor that the encoder has not learned.",
    "Images that were not tried have no patch to show; the networks have looked at all of them.",
    "The networks learn the best patches that there are. They suspect some images of a clean set too.",
];

/// What was scanned and found.
pub(super) struct Page<'a> {
    pub images: &'a ScanImages,
    /// The images as the scan saw them.
    pub set: &'a SampleSet,
    pub findings: &'a Findings,
    /// The poisoned images, and how well the ranking finds them, where it is known.
    pub truth: Option<(&'a HashSet<u64>, Vec<AtK>)>,
    /// The encoder, in words.
    pub encoder: &'a str,
}

#[derive(Template)]
#[template(path = "scan.html")]
struct Html<'a> {
    name: &'a str,
    lead: String,
    truth: Option<Vec<[String; 3]>>,
    sections: [(&'static str, Vec<Card>); 2],
    figures: Vec<String>,
    blind: [&'static str; 4],
}

/// An image with its patch.
struct Card {
    source: String,
    picture: String,
    patch: Option<String>,
    words: Vec<String>,
    suspected: bool,
    poisoned: bool,
}

/// A line of the CSV.
struct Row<'a> {
    source: &'a str,
    id: u64,
    score: f64,
    suspected: bool,
    evidence: Option<&'a Evidence>,
    poisoned: Option<bool>,
}

impl Page<'_> {
    /// Writes all files into `folder`.
    ///
    /// # Errors
    /// A file cannot be written, or an image cannot be read.
    pub fn write(&self, folder: &RunFolder) -> Result<()> {
        let rows = self.rows();
        folder.write("index.html", self.html(&rows)?.as_bytes())?;
        folder.write("images.csv", &csv(&rows)?)?;
        folder.write("suspected.txt", self.list(true)?.as_bytes())?;
        folder.write("cleaned.txt", self.list(false)?.as_bytes())
    }

    /// What was found, in lines.
    pub fn summary(&self, out: &Path) -> String {
        let (count, found) = (self.images.sources.len(), self.findings.accused.len());
        let mut text = format!("suspected  {found} of {count} images\n");
        if let Some(best) = self.findings.evidence.first() {
            text += &format!("strongest  {}\n", best.caption);
        }
        if let Some((poisoned, at)) = &self.truth {
            let right = self.findings.accused.iter().filter(|id| poisoned.contains(id)).count();
            text += &format!("poisoned   {right} of the suspected, {} in all\n", poisoned.len());
            for at in at {
                let recall =
                    at.recall.map_or("-".into(), |recall| format!("{:.1} %", 100.0 * recall));
                text += &format!(
                    "first {:<5}{} poisoned: precision {:.1} %, recall {recall}\n",
                    at.k,
                    at.poisoned,
                    100.0 * at.precision
                );
            }
        }
        text + &format!("page       {}\n", out.join("index.html").display())
    }

    /// All images, the most suspicious first.
    fn rows(&self) -> Vec<Row<'_>> {
        let evidence: HashMap<u64, &Evidence> =
            self.findings.evidence.iter().filter_map(|one| Some((one.image?, one))).collect();
        let accused: HashSet<u64> = self.findings.accused.iter().copied().collect();
        let at = self.positions();
        let row = |score: &ssl_backdoor_scan::Score| {
            let Scored::Image(id) = score.of else { return None };
            Some(Row {
                source: &self.images.sources[*at.get(&id)?],
                id,
                score: score.value,
                suspected: accused.contains(&id),
                evidence: evidence.get(&id).copied(),
                poisoned: self.truth.as_ref().map(|(poisoned, _)| poisoned.contains(&id)),
            })
        };
        self.findings.scores.iter().filter_map(row).collect()
    }

    fn positions(&self) -> HashMap<u64, usize> {
        self.images.ids().into_iter().zip(0..).collect()
    }

    fn html(&self, rows: &[Row<'_>]) -> Result<String> {
        let cards: Result<Vec<Card>> = rows.iter().take(SHOWN).map(|row| self.card(row)).collect();
        let by_id: HashMap<u64, &Row<'_>> = rows.iter().map(|row| (row.id, row)).collect();
        let strongest = self.findings.evidence.iter().take(SHOWN / 3);
        let strongest = strongest.filter_map(|one| by_id.get(&one.image?).copied());
        let patches: Result<Vec<Card>> = strongest.map(|row| self.card(row)).collect();
        let share = |share: f64| format!("{:.1} %", 100.0 * share);
        let truth = self.truth.as_ref().map(|(_, at)| {
            let line = |at: &AtK| {
                let recall = at.recall.map_or("-".into(), share);
                [format!("{}", at.k), share(at.precision), recall]
            };
            at.iter().map(line).collect()
        });
        let html = Html {
            name: &self.images.name,
            lead: format!(
                "{} of {} images are suspected. The encoder is {}.",
                self.findings.accused.len(),
                self.images.sources.len(),
                self.encoder
            ),
            truth,
            sections: [("The most suspicious images", cards?), ("The strongest patches", patches?)],
            figures: self
                .findings
                .figures
                .iter()
                .map(|(name, v)| format!("{name}: {v:.3}"))
                .collect(),
            blind: BLIND,
        };
        html.render().context("cannot make index.html")
    }

    fn card(&self, row: &Row<'_>) -> Result<Card> {
        let picture = match row.evidence {
            Some(evidence) => evidence.picture.clone(),
            None => {
                let at = self.positions().get(&row.id).copied();
                let at = at.ok_or_else(|| anyhow!("image {} is not in the set", row.id))?;
                self.set.get(at)?.image
            }
        };
        let patch = row.evidence.and_then(|one| one.patch);
        let mut words = vec![format!("score {:.3}", row.score)];
        words.extend(row.evidence.map(|one| one.caption.clone()));
        Ok(Card {
            source: row.source.to_owned(),
            patch: patch.map(|patch| data_uri(&[cut(&picture, patch)])).transpose()?,
            picture: data_uri(&[framed(picture, patch)])?,
            words,
            suspected: row.suspected,
            poisoned: row.poisoned == Some(true),
        })
    }

    /// A list of the images that are suspected, or of the others: files with their labels, or ids.
    fn list(&self, suspected: bool) -> Result<String> {
        let accused: HashSet<u64> = self.findings.accused.iter().copied().collect();
        let labels = self.images.split.labels.iter();
        let wanted = labels.enumerate().filter(|(_, (id, _))| accused.contains(id) == suspected);
        let Some(files) = &self.images.split.files else {
            return Ok(wanted.map(|(_, (id, _))| format!("{id}\n")).collect());
        };
        let whole =
            |at: usize| std::path::absolute(&files[at]).unwrap_or_else(|_| files[at].clone());
        let lines: Vec<(String, u32)> = wanted
            .map(|(at, (_, label))| (whole(at).to_string_lossy().into_owned(), *label))
            .collect();
        let lines = lines.iter().map(|(path, label)| (path.as_str(), *label, None));
        Ok(list_text(lines).map_err(|reason| anyhow!(reason))?.0)
    }
}

fn cut(picture: &RgbImage, Patch { x, y, width, height }: Patch) -> RgbImage {
    imageops::crop_imm(picture, x, y, width, height).to_image()
}

/// The picture with a frame around its patch.
fn framed(mut picture: RgbImage, patch: Option<Patch>) -> RgbImage {
    let Some(Patch { x, y, width, height }) = patch else { return picture };
    let red = image::Rgb([255, 0, 0]);
    let (right, bottom) = (x + width.saturating_sub(1), y + height.saturating_sub(1));
    for across in x..=right {
        for down in [y, bottom] {
            picture.put_pixel(across, down, red);
        }
    }
    for down in y..=bottom {
        for across in [x, right] {
            picture.put_pixel(across, down, red);
        }
    }
    picture
}

/// Rank, image, score and what was found of it. `flips`, `cluster` and the patch are empty for an image that was not
/// tried, `poisoned` where nothing says it.
fn csv(rows: &[Row<'_>]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = [
        "rank",
        "image",
        "id",
        "score",
        "suspected",
        "flips",
        "cluster",
        "x",
        "y",
        "width",
        "height",
        "poisoned",
    ];
    writer.write_record(head)?;
    let text = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for (rank, row) in (1..).zip(rows) {
        let patch = row.evidence.and_then(|one| one.patch);
        let side = |of: fn(Patch) -> u32| text(patch.map(|patch| f64::from(of(patch))));
        writer.write_record([
            format!("{rank}"),
            row.source.to_owned(),
            row.id.to_string(),
            format!("{:.6}", row.score),
            row.suspected.to_string(),
            text(row.evidence.map(|one| one.value)),
            text(row.evidence.and_then(|one| one.cluster).map(f64::from)),
            side(|patch| patch.x),
            side(|patch| patch.y),
            side(|patch| patch.width),
            side(|patch| patch.height),
            row.poisoned.map_or(String::new(), |poisoned| poisoned.to_string()),
        ])?;
    }
    writer.into_inner().map_err(|e| e.into_error().into())
}
