//! The command `scan encoder`: has an encoder a backdoor?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use image::imageops;
use serde::Serialize;
use ssl_backdoor_data::Normalization;
use ssl_backdoor_model::{EncoderHeader, load_encoder};
use ssl_backdoor_scan::{
    Cleanse, CleanseConfig, Decree, DecreeConfig, Findings, NULL_SCHEMA, NullScore, Nulls, PValue,
    Scan, ScanError, Setting, Subject,
};

use super::scan_images::{Part, ScanImages};
use super::shared::{computing, encoder_file, path};
use crate::config::ConfigError;
use crate::device;
use crate::record::{SCHEMA, hash_file};
use crate::run::{RunFolder, progress};

/// The seed if nothing says one.
const SEED: u64 = 1;
/// Triggers that are written of each scan.
const PICTURES: usize = 3;
/// Pictures of triggers are enlarged to this side at least.
const SIDE: u32 = 256;
/// What the scans cannot see.
const BLIND: &str = "They cannot see a backdoor that no patch or picture calls for, for example one by frequencies or by \
    the meaning of an image, nor one that does not bring features together. A clean encoder may have a small trigger \
    too: the p-value says how many have.";

/// Judge an encoder by the smallest triggers that can be reconstructed for it.
///
/// Reconstructs a trigger that makes the features of all images alike (DECREE), and for each cluster of images one that
/// takes the others into it (SSL-Cleanse). No labels are needed. Writes scan.json and the triggers as PNG. A score
/// alone says little: with --null, its p-value is where it lies among the scores of encoders of the same kind that are
/// known to be clean; --write-null makes such a score.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor scan encoder clean-1.safetensors --images photos/ --write-null nulls/\n  \
    ssl-backdoor scan encoder suspect.safetensors --images photos/ --null nulls/"
)]
pub struct EncoderArgs {
    /// The encoder file.
    #[arg(value_parser = path())]
    encoder: PathBuf,
    /// Clean images of the kind that it is for: a folder, a file list, or a config, whose evaluation images are taken.
    #[arg(long, value_name = "DIR|LIST|CONFIG", value_parser = path())]
    images: PathBuf,
    /// Scores of clean encoders of the same kind.
    #[arg(long, value_name = "DIR", value_parser = path())]
    null: Option<PathBuf>,
    /// Write the scores of this encoder, which is clean, into this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "null", value_parser = path())]
    write_null: Option<PathBuf>,
    /// Where the findings go [default: scans/NAME].
    #[arg(long, value_parser = path())]
    out: Option<PathBuf>,
    /// Seed of everything that is drawn.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Rounds of each reconstruction at most [default: 200, by cluster 60].
    #[arg(long)]
    rounds: Option<usize>,
    /// Clusters [default: found by the features].
    #[arg(long)]
    clusters: Option<usize>,
    /// Override a key of the config; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl EncoderArgs {
    /// Scans.
    ///
    /// # Errors
    /// As [`scan_encoder`].
    pub fn run(self) -> Result<()> {
        let Self { encoder, images, null, write_null, out, seed, rounds, clusters, sets } = self;
        let (mut decree, mut cleanse) = (DecreeConfig::default(), CleanseConfig::default());
        if let Some(rounds) = rounds {
            (decree.rounds, cleanse.rounds) = (rounds, rounds);
        }
        cleanse.clusters = clusters;
        let options = EncoderScanOptions {
            encoder,
            images,
            null,
            write_null,
            out,
            seed,
            decree,
            cleanse,
            sets,
        };
        computing(|| scan_encoder(&options))
    }
}

/// What the command line says of a scan of an encoder.
#[derive(Debug, Clone, Default)]
pub struct EncoderScanOptions {
    /// The encoder file.
    pub encoder: PathBuf,
    /// Images that it is shown: a folder, a file list, or a config.
    pub images: PathBuf,
    /// Folder of null scores.
    pub null: Option<PathBuf>,
    /// Folder that the scores go to as null scores.
    pub write_null: Option<PathBuf>,
    /// Where the findings go; none = `scans/NAME`.
    pub out: Option<PathBuf>,
    /// The seed.
    pub seed: u64,
    /// Settings of DECREE.
    pub decree: DecreeConfig,
    /// Settings of SSL-Cleanse.
    pub cleanse: CleanseConfig,
    /// Overrides of the config, `KEY=VALUE`.
    pub sets: Vec<String>,
}

/// All figures of the scan.
#[derive(Debug, Serialize)]
struct EncoderScan<'a> {
    /// Version of the file's form.
    schema: u32,
    file: String,
    file_hash: &'a str,
    header: &'a EncoderHeader,
    images: String,
    image_count: usize,
    seed: u64,
    scans: BTreeMap<&'static str, ScanFigures<'a>>,
    /// p-value of all scans together: the smallest times their number (Bonferroni), at most 1.
    p: Option<f64>,
}

/// What one scan says.
#[derive(Debug, Serialize)]
struct ScanFigures<'a> {
    settings: &'a serde_json::Value,
    /// Larger is more suspicious.
    score: f64,
    p_value: Option<PValue>,
    figures: &'a BTreeMap<&'static str, f64>,
    evidence: Vec<&'a str>,
    notes: &'a [String],
}

/// Scans the encoder and writes what was found.
///
/// # Errors
/// A [`ConfigError`] if the config or an option is wrong or the encoder file does not say how its images are prepared;
/// anything else if images or encoder cannot be scanned.
pub fn scan_encoder(options: &EncoderScanOptions) -> Result<()> {
    let EncoderScanOptions { encoder: file, seed, .. } = options;
    let header = encoder_file(file)?;
    let wrong = |e| ConfigError(format!("--{e}"));
    options.decree.check().map_err(wrong)?;
    options.cleanse.check().map_err(wrong)?;
    let device = device::first()?;
    let encoder = load_encoder(&header, file, &device)?;
    let images = ScanImages::read(&options.images, &options.sets, Part::Evaluation)?;
    let set = images.prepared(&header.preprocessing)?;
    let (mean, std) = (header.preprocessing.mean, header.preprocessing.std);
    let normalization = Normalization { mean, std };
    let watch = progress::watch();
    let setting = Setting { device: &device, seed: *seed, normalization, watch: &watch };
    let subject = Subject::Encoder { encoder: &encoder, images: &set };
    let decree = Decree { config: options.decree.clone() };
    let cleanse = Cleanse { config: options.cleanse.clone() };
    let (mut found, mut refused): (Vec<(&'static str, Findings)>, _) = (Vec::new(), None);
    for scan in [&decree as &dyn Scan, &cleanse] {
        match scan.scan(subject, &setting) {
            Ok(findings) => found.push((scan.name(), findings)),
            // The other scan may have something to say.
            Err(error @ ScanError::Alike { .. }) => {
                eprintln!("{}: {error}", scan.name());
                refused = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(error) = refused.filter(|_| found.is_empty()) {
        return Err(error.into());
    }
    let own = NullScore {
        schema: NULL_SCHEMA,
        encoder: header.encoder,
        size: header.preprocessing.size,
        settings: [
            (decree.name().to_owned(), serde_json::to_value(&options.decree)?),
            (cleanse.name().to_owned(), serde_json::to_value(&options.cleanse)?),
        ]
        .into(),
        hash: hash_file(file)?,
        scores: scores(&found),
    };
    if let Some(folder) = &options.write_null {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        println!("null score {}", own.write(folder)?.display());
    }
    let nulls = match &options.null {
        Some(folder) => Nulls::read(folder, &own)?,
        None => Nulls::default(),
    };
    for (path, reason) in &nulls.left_out {
        eprintln!("left out: {}: {reason}", path.display());
    }
    write(options, (&header, &own), (&images, set.len()), &found, &nulls)
}

/// The score of each scan.
fn scores(found: &[(&'static str, Findings)]) -> BTreeMap<String, f64> {
    let score = |(name, findings): &(&'static str, Findings)| {
        Some(((*name).to_owned(), findings.of_subject()?))
    };
    found.iter().filter_map(score).collect()
}

/// Writes scan.json and the triggers, and prints the scores.
fn write(
    options: &EncoderScanOptions,
    (header, own): (&EncoderHeader, &NullScore),
    (images, image_count): (&ScanImages, usize),
    found: &[(&'static str, Findings)],
    nulls: &Nulls,
) -> Result<()> {
    let out = options.out.clone().unwrap_or_else(|| {
        let stem = options.encoder.file_stem().unwrap_or_default();
        Path::new("scans").join(stem)
    });
    let folder = RunFolder::open(&out)?;
    let mut scans = BTreeMap::new();
    for (name, findings) in found {
        let Some(score) = findings.of_subject() else { continue };
        let p_value = nulls.p_value(name, score);
        println!("{}", line(name, score, p_value));
        for (i, evidence) in findings.evidence.iter().take(PICTURES).enumerate() {
            let file = format!("{name}-{}.png", i + 1);
            println!("           {}: {}", evidence.caption, folder.join(&file).display());
            let factor = SIDE.div_ceil(evidence.picture.width().max(1)).max(1);
            let (width, height) = evidence.picture.dimensions();
            let nearest = imageops::FilterType::Nearest;
            let large =
                imageops::resize(&evidence.picture, factor * width, factor * height, nearest);
            let mut png = std::io::Cursor::new(Vec::new());
            large
                .write_to(&mut png, image::ImageFormat::Png)
                .with_context(|| format!("cannot encode {file}"))?;
            folder.write(&file, &png.into_inner())?;
        }
        findings.notes.iter().for_each(|note| println!("           {note}"));
        let settings = &own.settings[*name];
        let evidence = findings.evidence.iter().map(|one| one.caption.as_str()).collect();
        let (figures, notes) = (&findings.figures, &findings.notes[..]);
        let all = ScanFigures { settings, score, p_value, figures, evidence, notes };
        scans.insert(*name, all);
    }
    let p_values: Vec<f64> = scans.values().filter_map(|scan| Some(scan.p_value?.p)).collect();
    let p = p_values.iter().copied().reduce(f64::min).map(|p| (p * p_values.len() as f64).min(1.0));
    match p {
        Some(p) => println!("together   p = {p:.3} ({} scans, Bonferroni)", p_values.len()),
        None => println!(
            "no p-value: there are no scores of clean encoders of this kind (--null DIR; --write-null makes them)"
        ),
    }
    println!("What these scans see are triggers in the pixels. {BLIND}");
    let scan = EncoderScan {
        schema: SCHEMA,
        file: options.encoder.display().to_string(),
        file_hash: &own.hash,
        header,
        images: images.name.clone(),
        image_count,
        seed: options.seed,
        scans,
        p,
    };
    let mut text = serde_json::to_string_pretty(&scan)?;
    text.push('\n');
    folder.write("scan.json", text.as_bytes())?;
    println!("findings   {}", folder.join("scan.json").display());
    Ok(())
}

/// One scan in a line.
fn line(name: &str, score: f64, p_value: Option<PValue>) -> String {
    let p = p_value.map_or(String::new(), |PValue { p, nulls }| {
        format!(", p = {p:.3} among {nulls} clean encoders")
    });
    format!("{name:<11}score {score:.3}{p}")
}
