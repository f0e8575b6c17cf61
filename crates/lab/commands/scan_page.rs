//! The output of `scan data`: an HTML page, the ranking as CSV, and lists of suspected and remaining images.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use askama::Template;
use image::{RgbImage, imageops};
use serde::Serialize;
use ssl_backdoor_data::{SampleSet, list_text};
use ssl_backdoor_scan::{AtK, Evidence, Findings, Patch, PatchSearch, Scored};

use super::scan_images::ScanImages;
use crate::record::{DataScan, SCHEMA, json_text};
use crate::report::data_uri;
use crate::run::RunFolder;

/// Images on the page; a third as many patches.
const SHOWN: usize = 60;
/// Images in a strip.
const STRIP: usize = 4;

/// The subject and the findings of a scan.
pub(super) struct Page<'a> {
    pub images: &'a ScanImages,
    /// The images as the scan saw them.
    pub set: &'a SampleSet,
    pub findings: &'a Findings,
    /// The findings as numbers.
    pub scan: DataScan,
    /// A description of the encoder.
    pub encoder: &'a str,
    /// Position of each image, by its id.
    pub positions: HashMap<u64, usize>,
}

#[derive(Template)]
#[template(path = "scan.html")]
struct Html<'a> {
    name: &'a str,
    lead: String,
    truth: Option<Truth>,
    sections: [(&'static str, Vec<Card>); 2],
    figures: Vec<String>,
    blind: [&'static str; 4],
}

/// How the findings compare with the ledger.
struct Truth {
    words: String,
    /// k, then precision and recall of the ranking and of the strongest patches.
    rows: Vec<[String; 5]>,
}

/// The file scan.json.
#[derive(Serialize)]
struct File<'a> {
    schema: u32,
    name: &'a str,
    encoder: &'a str,
    #[serde(flatten)]
    scan: &'a DataScan,
    blind: [&'static str; 4],
}

/// An image with its patch.
struct Card {
    source: String,
    picture: String,
    patch: Option<String>,
    words: Vec<String>,
    /// Strips of other images with titles: images that the patch pulls into the cluster, and typical images of it.
    strips: Vec<(String, String)>,
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
    /// Writes all files into `folder`, and returns the text of scan.json.
    ///
    /// # Errors
    /// A file cannot be written, or an image cannot be read.
    pub fn write(&self, folder: &RunFolder) -> Result<String> {
        let rows = self.rows();
        folder.write("index.html", self.html(&rows)?.as_bytes())?;
        folder.write("images.csv", &csv(&rows)?)?;
        let Self { images, scan, encoder, .. } = self;
        let (name, blind) = (images.name.as_str(), PatchSearch::BLIND);
        let file = File { schema: SCHEMA, name, encoder, scan, blind };
        let text = json_text(&file)?;
        folder.write("scan.json", text.as_bytes())?;
        folder.write("suspected.txt", self.list(true)?.as_bytes())?;
        folder.write("cleaned.txt", self.list(false)?.as_bytes())?;
        Ok(text)
    }

    /// The findings as lines.
    pub fn summary(&self, out: &Path) -> String {
        let DataScan { images, suspected, strongest, truth, .. } = &self.scan;
        let mut text = format!("suspected  {suspected} of {images} images\n");
        if let Some(strongest) = strongest {
            text += &format!("strongest  {strongest}\n");
        }
        if let Some(truth) = truth {
            let of = |at: &AtK, what: &str| {
                let recall = at.recall.map_or("-".into(), share);
                let (k, right, precision) = (at.k, at.poisoned, share(at.precision));
                format!("{what} {k:<5}{right} poisoned: precision {precision}, recall {recall}\n")
            };
            text += &format!(
                "poisoned   {} of the suspected images, {} in total\n",
                truth.suspected, truth.poisoned
            );
            text.extend(truth.ranking.iter().map(|at| of(at, "first")));
            text.extend(truth.patches.iter().filter(|at| at.k == 20).map(|at| of(at, "patch")));
        }
        text += &format!("page       {}\n", out.join("index.html").display());
        text + "What the scan cannot detect: " + &PatchSearch::BLIND.join(" ") + "\n"
    }

    /// All images, the most suspicious first.
    fn rows(&self) -> Vec<Row<'_>> {
        let evidence: HashMap<u64, &Evidence> =
            self.findings.evidence.iter().filter_map(|one| Some((one.image?, one))).collect();
        let accused: HashSet<u64> = self.findings.accused.iter().copied().collect();
        let at = &self.positions;
        let row = |score: &ssl_backdoor_scan::Score| {
            let Scored::Image(id) = score.of else { return None };
            Some(Row {
                source: &self.images.sources[*at.get(&id)?],
                id,
                score: score.value,
                suspected: accused.contains(&id),
                evidence: evidence.get(&id).copied(),
                poisoned: self.images.poisoned.as_ref().map(|ids| ids.contains(&id)),
            })
        };
        self.findings.scores.iter().filter_map(row).collect()
    }

    fn html(&self, rows: &[Row<'_>]) -> Result<String> {
        let cards: Result<Vec<Card>> = rows.iter().take(SHOWN).map(|row| self.card(row)).collect();
        let by_id: HashMap<u64, &Row<'_>> = rows.iter().map(|row| (row.id, row)).collect();
        let strongest = self.findings.evidence.iter().take(SHOWN / 3);
        let strongest = strongest.filter_map(|one| by_id.get(&one.image?).copied());
        let patches: Result<Vec<Card>> = strongest.map(|row| self.card(row)).collect();
        let html = Html {
            name: &self.images.name,
            lead: format!(
                "{} of {} images are suspected. The encoder is {}.",
                self.findings.accused.len(),
                self.images.sources.len(),
                self.encoder
            ),
            truth: self.truth(),
            sections: [("The most suspicious images", cards?), ("The strongest patches", patches?)],
            figures: self
                .findings
                .figures
                .iter()
                .map(|(name, v)| format!("{name}: {v:.3}"))
                .collect(),
            blind: PatchSearch::BLIND,
        };
        html.render().context("cannot make index.html")
    }

    fn truth(&self) -> Option<Truth> {
        let truth = self.scan.truth.as_ref()?;
        let cell = |at: Option<&AtK>, of: fn(&AtK) -> Option<f64>| {
            at.and_then(of).map_or("-".into(), share)
        };
        let row = |at: &AtK| {
            let patches = truth.patches.iter().find(|patch| patch.k == at.k);
            [
                at.k.to_string(),
                cell(Some(at), |at| Some(at.precision)),
                cell(Some(at), |at| at.recall),
                cell(patches, |at| Some(at.precision)),
                cell(patches, |at| at.recall),
            ]
        };
        let words = format!(
            "{} of the {} suspected images are poisoned; the set contains {} poisoned images.",
            truth.suspected, self.scan.suspected, truth.poisoned
        );
        Some(Truth { words, rows: truth.ranking.iter().map(row).collect() })
    }

    fn card(&self, row: &Row<'_>) -> Result<Card> {
        let picture = match row.evidence {
            Some(evidence) => evidence.picture.clone(),
            None => self.picture(row.id)?,
        };
        let patch = row.evidence.and_then(|one| one.patch);
        let mut words = vec![format!("score {:.3}", row.score)];
        words.extend(row.evidence.map(|one| one.caption.clone()));
        Ok(Card {
            source: row.source.to_owned(),
            patch: patch.map(|patch| data_uri(&[cut(&picture, patch)])).transpose()?,
            picture: data_uri(&[framed(picture, patch)])?,
            words,
            strips: self.strips(row.evidence)?,
            suspected: row.suspected,
            poisoned: row.poisoned == Some(true),
        })
    }

    /// Typical images of the cluster, and some that the patch pulls into it.
    fn strips(&self, evidence: Option<&Evidence>) -> Result<Vec<(String, String)>> {
        let Some((evidence, cluster)) = evidence.and_then(|one| Some((one, one.cluster?))) else {
            return Ok(Vec::new());
        };
        let typical = self.findings.typical.get(&cluster).map_or(&[][..], |ids| &ids[..]);
        let titles = ["Images pulled into the cluster by the patch", "Images of the cluster"];
        let mut strips = Vec::new();
        for (title, ids) in titles.into_iter().zip([&evidence.taken[..], typical]) {
            let pictures: Result<Vec<_>> =
                ids.iter().take(STRIP).map(|id| self.picture(*id)).collect();
            if !ids.is_empty() {
                strips.push((title.to_owned(), data_uri(&pictures?)?));
            }
        }
        Ok(strips)
    }

    /// The image `id` as the scan saw it.
    fn picture(&self, id: u64) -> Result<RgbImage> {
        let at = self.positions.get(&id);
        let at = at.ok_or_else(|| anyhow!("image {id} is not in the set"))?;
        Ok(self.set.get(*at)?.image)
    }

    /// The list of suspected images, or of the others: files with their labels, or ids.
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

/// A share in percent.
fn share(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
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

/// The CSV: rank, image, score and findings. `flips`, `cluster` and the patch are empty for an image whose patch was
/// not tried; `poisoned` is empty if it is unknown.
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
