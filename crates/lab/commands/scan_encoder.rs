//! The command `scan encoder`: does an encoder have a backdoor?

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use image::{RgbImage, imageops};
use serde::Serialize;
use ssl_backdoor_data::Normalization;
use ssl_backdoor_model::{EncoderHeader, load_encoder};
use ssl_backdoor_scan::{
    EncoderFindings, EncoderScans, NullScore, Nulls, PValue, ScanConfig, Setting,
};

use super::scan_images::{Part, ScanImages, scans_of};
use super::shared::{computing, encoder_file, existing, of_option, path};
use crate::config::ConfigError;
use crate::device;
use crate::record::{EncoderScan, SCHEMA, ScanScore, hash_file, json_text};
use crate::run::{RunFolder, progress};

/// Number of triggers written by each scan.
const PICTURES: usize = 3;
/// Smallest side of the pictures of triggers, in pixels.
const SIDE: u32 = 256;

/// Scan an encoder: reconstruct the smallest triggers that act on it.
///
/// Reconstructs a trigger that makes the features of all images alike (DECREE), and for each cluster of images a trigger
/// that pulls the other images into it (SSL-Cleanse). No labels are needed. Writes scan.json and the triggers as PNG.
/// A score alone says little. With --null, the scan gives a p-value: the position of the score among those of clean
/// encoders of the same kind, on the same images with the same seed. n such scores allow no p-value below 1/(1+n), so 39
/// are needed for 0.025. `scan nulls` trains clean encoders and makes their scores; --write-null makes the score of an
/// existing encoder. If --images is a config with a [scan] table, its settings and its null scores are used unless options
/// change them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor scan encoder clean-1.safetensors --images photos/ --write-null nulls/\n  \
    ssl-backdoor scan encoder suspect.safetensors --images photos/ --null nulls/"
)]
pub struct EncoderArgs {
    /// The encoder file.
    #[arg(value_parser = existing())]
    encoder: PathBuf,
    /// Clean images of the kind that the encoder is for: a folder, a file list, or a config (its evaluation images).
    #[arg(long, value_name = "DIR|LIST|CONFIG", value_parser = existing())]
    images: PathBuf,
    /// Folder with the scores of clean encoders of the same kind [default: scan.null of the config].
    #[arg(long, value_name = "DIR", value_parser = existing())]
    null: Option<PathBuf>,
    /// Write the scores of this encoder, which must be clean, to this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "null", value_parser = path())]
    write_null: Option<PathBuf>,
    /// Output folder [default: scans/NAME].
    #[arg(long, value_parser = path())]
    out: Option<PathBuf>,
    /// Seed of all random draws [default: that of the config's [scan] table, or 1].
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    scans: ScansArgs,
    /// Override a key of the config; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print scan.json instead of a summary.
    #[arg(long)]
    json: bool,
}

impl EncoderArgs {
    /// Scans.
    ///
    /// # Errors
    /// As [`scan_encoder`].
    pub fn run(self) -> Result<()> {
        let Self { encoder, images, null, write_null, out, seed, scans, sets, json } = self;
        let (config, _) = scans_of(&images, &sets)?;
        let (seed, scans) = (seed.unwrap_or(config.seed), scans.over(&config));
        // The scores of a clean encoder are not compared with others.
        let null = null.or(config.null.filter(|_| write_null.is_none()));
        let options =
            EncoderScanOptions { encoder, images, null, write_null, out, seed, scans, sets, json };
        computing(|| scan_encoder(&options))
    }
}

/// Settings of the scans on the command line.
#[derive(Debug, Args)]
pub(super) struct ScansArgs {
    /// Maximum rounds of a reconstruction [default: 200, per cluster 60].
    #[arg(long)]
    rounds: Option<usize>,
    /// Number of clusters [default: chosen by the features].
    #[arg(long)]
    clusters: Option<usize>,
}

impl ScansArgs {
    /// The settings of `config`, with those of the command line over them.
    pub(super) fn over(self, config: &ScanConfig) -> EncoderScans {
        let mut scans = config.encoder();
        if let Some(rounds) = self.rounds {
            (scans.decree.rounds, scans.cleanse.rounds) = (rounds, rounds);
        }
        scans.cleanse.clusters = self.clusters.or(scans.cleanse.clusters);
        scans
    }
}

/// Options of a scan of an encoder.
#[derive(Debug, Clone, Default)]
pub struct EncoderScanOptions {
    /// The encoder file.
    pub encoder: PathBuf,
    /// The images: a folder, a file list, or a config.
    pub images: PathBuf,
    /// Folder of null scores.
    pub null: Option<PathBuf>,
    /// Folder to which the scores are written as null scores.
    pub write_null: Option<PathBuf>,
    /// Output folder; none = `scans/NAME`.
    pub out: Option<PathBuf>,
    /// The seed.
    pub seed: u64,
    /// Settings of the scans.
    pub scans: EncoderScans,
    /// Overrides of the config, `KEY=VALUE`.
    pub sets: Vec<String>,
    /// Print the findings as JSON.
    pub json: bool,
}

/// The file scan.json: the scan and its subject.
#[derive(Debug, Serialize)]
struct File<'a> {
    /// Schema version of the file.
    schema: u32,
    file: String,
    header: &'a EncoderHeader,
    images: &'a str,
    image_count: usize,
    #[serde(flatten)]
    scan: EncoderScan,
    /// What the scans cannot detect.
    blind: &'static str,
}

/// Scans the encoder and writes the findings.
///
/// # Errors
/// A [`ConfigError`] if the config or an option is wrong or the encoder file does not record how images are prepared;
/// another error if images or encoder cannot be scanned.
pub fn scan_encoder(options: &EncoderScanOptions) -> Result<()> {
    let EncoderScanOptions { encoder: file, seed, scans, .. } = options;
    let header = encoder_file(file)?;
    check(scans)?;
    let device = device::first()?;
    let encoder = load_encoder(&header, file, &device)?;
    let images = ScanImages::read(&options.images, &options.sets, Part::Evaluation)?;
    let set = images.prepared(&header.preprocessing)?;
    let (mean, std) = (header.preprocessing.mean, header.preprocessing.std);
    // On a terminal, bars follow; elsewhere nothing does for minutes.
    eprintln!("scanning {} on {} images of {}", file.display(), set.len(), images.name);
    let watch = progress::watch();
    let setting = Setting {
        device: &device,
        seed: *seed,
        normalization: Normalization { mean, std },
        watch: &watch,
    };
    // Null scores that cannot be used are named before the scan, which takes minutes.
    let own = scans.expected(&header, (hash_file(file)?, *seed), &scans.shown(&set, *seed)?, None);
    let nulls = match &options.null {
        Some(folder) => Nulls::read(folder, &own)?,
        None => Nulls::default(),
    };
    let found = scans.scan(&encoder, &set, &setting)?.any()?;
    found.refused.iter().for_each(|error| eprintln!("{error}"));
    let own = NullScore { scores: found.scores(), ..own };
    let mut lines = String::new();
    if let Some(folder) = &options.write_null {
        lines += &format!("null score   {}\n", write_null(folder, &own)?.display());
    }
    let scanned = Scanned { options, header: &header, found: &found, own: &own, nulls: &nulls };
    let text = scanned.write((&images.name, set.len()), &mut lines)?;
    print!("{}", if options.json { text } else { lines });
    Ok(())
}

/// Checks the settings.
///
/// # Errors
/// Names the option.
pub(super) fn check(scans: &EncoderScans) -> Result<(), ConfigError> {
    scans.decree.check().map_err(of_option)?;
    scans.cleanse.check().map_err(of_option)
}

/// Writes `score` to `folder`, which is created if necessary; returns the path of the file.
pub(super) fn write_null(folder: &Path, score: &NullScore) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(score.write(folder)?)
}

/// An encoder that was scanned.
struct Scanned<'a> {
    options: &'a EncoderScanOptions,
    header: &'a EncoderHeader,
    found: &'a EncoderFindings,
    own: &'a NullScore,
    nulls: &'a Nulls,
}

impl Scanned<'_> {
    /// Writes scan.json and the triggers, and returns the text of scan.json. Adds the scores to `lines`.
    fn write(&self, (images, image_count): (&str, usize), lines: &mut String) -> Result<String> {
        let Self { options, header, found, own, nulls } = *self;
        let out = options.out.clone().unwrap_or_else(|| {
            let stem = options.encoder.file_stem().unwrap_or_default();
            Path::new("scans").join(stem)
        });
        let folder = RunFolder::open(&out)?;
        let scan = EncoderScan::of(found, own.clone(), nulls);
        for (name, findings) in &found.found {
            let Some(score) = scan.scans.get(*name) else { continue };
            *lines += &line(name, score);
            for (i, evidence) in findings.evidence.iter().take(PICTURES).enumerate() {
                let file = format!("{name}-{}.png", i + 1);
                let shown = folder.join(&file);
                *lines += &format!("{:13}{}: {}\n", "", evidence.caption, shown.display());
                folder.write(&file, &enlarged(&evidence.picture)?)?;
            }
            findings.notes.iter().for_each(|note| *lines += &format!("{:13}{note}\n", ""));
        }
        *lines += &about_nulls(nulls, scan.p_value, options.null.is_some());
        *lines += &format!("{}\n", EncoderScans::BLIND);
        let file = File {
            schema: SCHEMA,
            file: options.encoder.display().to_string(),
            header,
            images,
            image_count,
            scan,
            blind: EncoderScans::BLIND,
        };
        let text = json_text(&file)?;
        folder.write("scan.json", text.as_bytes())?;
        *lines += &format!("findings     {}\n", folder.join("scan.json").display());
        Ok(text)
    }
}

/// The p-value of all scans together, and notes on the null scores, as lines.
fn about_nulls(nulls: &Nulls, p_value: Option<PValue>, given: bool) -> String {
    let mut text = String::new();
    for (path, reason) in &nulls.left_out {
        text += &format!("left out     {}: {reason}\n", path.display());
    }
    let Some(together) = p_value else {
        let reason = match given {
            true => "the folder has no score of a clean encoder that is comparable with this one",
            false => {
                "no scores of clean encoders were given (--null DIR; make them with `scan nulls`)"
            }
        };
        return text + &format!("no p-value: {reason}\n");
    };
    text += &format!("together     {}\n", in_words(together));
    let methods: Vec<&str> = nulls.methods().into_iter().collect();
    if !methods.is_empty() {
        text += &format!(
            "             The clean encoders were trained with {}. The p-value is not valid for an encoder that was trained \
             differently or on other images.\n",
            methods.join(" and ")
        );
    }
    text
}

/// A p-value, with the smallest one that its null scores allow.
fn in_words(p_value: PValue) -> String {
    let PValue { p, nulls } = p_value;
    format!(
        "p = {p:.3} among {nulls} clean encoders, which allow no p below {:.3}",
        p_value.least()
    )
}

/// The picture as PNG, enlarged so that its pixels can be seen.
fn enlarged(picture: &RgbImage) -> Result<Vec<u8>> {
    let factor = SIDE.div_ceil(picture.width().max(1)).max(1);
    let (width, height) = picture.dimensions();
    let nearest = imageops::FilterType::Nearest;
    let large = imageops::resize(picture, factor * width, factor * height, nearest);
    ssl_backdoor_images::png(&large).context("cannot encode a trigger")
}

/// One scan as a line, with its line break.
fn line(name: &str, ScanScore { score, p_value, .. }: &ScanScore) -> String {
    let p = p_value.map_or(String::new(), |p_value| format!(", p = {:.3}", p_value.p));
    format!("{name:<13}score {score:.3}{p}\n")
}
