//! The command `scan data`: which images of a set carry a trigger?

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use ssl_backdoor_data::{Normalization, SampleSet};
use ssl_backdoor_fields::{OutOfRange, require};
use ssl_backdoor_model::{Encoder, EncoderHeader, load_encoder, save_encoder};
use ssl_backdoor_scan::{PatchSearch, PatchSearchConfig, Scan, Setting, Subject, small_encoder};
use ssl_backdoor_ssl::{Training, encoder_header, pretrain};

use super::scan_images::{Part, ScanImages, scans_of};
use super::scan_page::Page;
use super::scan_training::Shown;
use super::shared::{computing, encoder_file, existing, of_option, path};
use crate::config::{ConfigError, Source};
use crate::device;
use crate::record::DataScan;
use crate::run::{RunFolder, progress};

/// The default seed.
const SEED: u64 = 1;

/// Rank images by how likely they carry a patch trigger.
///
/// Searches for small patches that pull other images into the cluster of their own image (PatchSearch); small networks
/// then look for the strongest patches in all images. Writes index.html (the page to look at), images.csv, scan.json,
/// suspected.txt and cleaned.txt. For a config, the poisoned training images are scanned, with the settings of its
/// [scan.data] table unless options change them. If a ledger is beside the images, precision and recall are printed.
///
/// The scan detects patches of about a quarter of the view's side, and only if the encoder has learned the backdoor. It
/// cannot detect triggers that cover the whole image. It suspects some images of every set, so look at them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ssl-backdoor scan data photos/ --fail-above 50\n  \
    ssl-backdoor scan data configs/quickstart.toml --encoder runs/quickstart/backdoored/encoder.safetensors")]
pub struct DataArgs {
    /// A folder of images, a file list, an export, or a config (*.toml).
    #[arg(value_name = "CONFIG|DIR|LIST", value_parser = existing())]
    images: PathBuf,
    /// An encoder trained on these images [default: a small one is trained].
    #[arg(long, value_name = "FILE", value_parser = existing())]
    encoder: Option<PathBuf>,
    /// Output folder [default: scans/NAME].
    #[arg(long, value_parser = path())]
    out: Option<PathBuf>,
    /// Epochs of the small encoder; fewer make the scan faster and less reliable [default: as many as pass 60,000
    /// images, 1 to 100].
    #[arg(long, conflicts_with = "encoder")]
    epochs: Option<usize>,
    /// Exit with status 3 if more images than this are suspected.
    #[arg(long, value_name = "IMAGES")]
    fail_above: Option<usize>,
    /// Side of the views without --encoder [default: data.size, or that of the first image, at most 64].
    #[arg(long, value_name = "PIXELS", conflicts_with = "encoder")]
    size: Option<u32>,
    /// Seed of all random draws [default: the config's, or 1].
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    search: SearchArgs,
    /// Scan the training images of a config without its poison, to see the false alarms.
    #[arg(long)]
    without_poison: bool,
    /// Override a key of the config; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print scan.json instead of a summary.
    #[arg(long)]
    json: bool,
}

impl DataArgs {
    /// Scans.
    ///
    /// # Errors
    /// As [`scan_data`].
    pub fn run(self) -> Result<()> {
        let (config, source) = scans_of(&self.images, &self.sets)?;
        let config = self.search.over(config.data);
        let options = DataScanOptions {
            images: self.images,
            encoder: self.encoder,
            out: self.out,
            epochs: self.epochs,
            fail_above: self.fail_above,
            size: self.size,
            seed: self.seed,
            without_poison: self.without_poison,
            config,
            sets: self.sets,
            json: self.json,
        };
        computing(|| scan(&options, |wrong| self.search.wrong(&source, wrong)))
    }
}

/// Settings of the search on the command line.
#[derive(Debug, Args)]
struct SearchArgs {
    /// Side of the patches [default: 60/224 of the view's side].
    #[arg(long, value_name = "PIXELS")]
    window: Option<u32>,
    /// Clusters of the features [default: one per 64 images].
    #[arg(long)]
    clusters: Option<usize>,
    /// Networks that learn the strongest patches [default: 5, or 3 up to 64 px].
    #[arg(long)]
    networks: Option<usize>,
    /// Maximum training steps of a network [default: 2000, or 1000 up to 64 px].
    #[arg(long)]
    steps: Option<usize>,
}

impl SearchArgs {
    /// The settings `config`, with those of the command line over them.
    fn over(&self, config: PatchSearchConfig) -> PatchSearchConfig {
        PatchSearchConfig {
            window: self.window.or(config.window),
            clusters: self.clusters.or(config.clusters),
            networks: self.networks.or(config.networks),
            steps: self.steps.or(config.steps),
            ..config
        }
    }

    /// The error for a value of the search: about the option, or about the key of the config if no option has changed it.
    fn wrong(&self, source: &Source, wrong: OutOfRange) -> ConfigError {
        let option = match wrong.field.as_str() {
            "window" => self.window.is_some(),
            "clusters" => self.clusters.is_some(),
            "networks" => self.networks.is_some(),
            "steps" => self.steps.is_some(),
            _ => false,
        };
        if option { of_option(wrong) } else { source.wrong(wrong.within("scan.data")) }
    }
}

/// Options of a scan of images.
#[derive(Debug, Clone, Default)]
pub struct DataScanOptions {
    /// The images: a folder, a file list, an export, or a config.
    pub images: PathBuf,
    /// The encoder file; none = train a small encoder.
    pub encoder: Option<PathBuf>,
    /// Output folder; none = `scans/NAME`.
    pub out: Option<PathBuf>,
    /// Epochs of the small encoder; none = as [`small_encoder`] chooses.
    pub epochs: Option<usize>,
    /// The largest number of suspected images that is not an error.
    pub fail_above: Option<usize>,
    /// Side of the views without an encoder file.
    pub size: Option<u32>,
    /// The seed.
    pub seed: Option<u64>,
    /// Scan the training images of a config without its poison.
    pub without_poison: bool,
    /// The search.
    pub config: PatchSearchConfig,
    /// Overrides of the config, `KEY=VALUE`.
    pub sets: Vec<String>,
    /// Print the findings as JSON.
    pub json: bool,
}

/// More images are suspected than allowed; the process ends with status 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{found} images are suspected; --fail-above allows {allowed}")]
pub struct Suspected {
    /// How many are suspected.
    pub found: usize,
    /// How many are allowed.
    pub allowed: usize,
}

/// Scans the images and writes the findings.
///
/// # Errors
/// A [`ConfigError`] if the config or an option is wrong, [`Suspected`] if too many images are suspected, another error
/// if images or encoder cannot be scanned.
pub fn scan_data(options: &DataScanOptions) -> Result<()> {
    scan(options, of_option)
}

/// Scans the images; `wrong` makes the error for a value of the search.
fn scan(options: &DataScanOptions, wrong: impl Fn(OutOfRange) -> ConfigError) -> Result<()> {
    let check = |images: usize, size: u32| -> Result<(), ConfigError> {
        require((8..=1024).contains(&size), "size", size, "allowed are 8 to 1024 pixels")
            .map_err(of_option)?;
        options.config.check(Some(images), size).map_err(&wrong)
    };
    let part = if options.without_poison { Part::Unpoisoned } else { Part::Training };
    let images = ScanImages::read(&options.images, &options.sets, part)?;
    let seed = options.seed.or(images.seed).unwrap_or(SEED);
    let out = options.out.clone();
    let out = out.unwrap_or_else(|| Path::new("scans").join(&images.name));
    let device = device::first()?;
    let count = images.split.labels.len();
    let (encoder, header, set, with) = match &options.encoder {
        Some(file) => {
            let header = encoder_file(file)?;
            check(count, header.preprocessing.size)?;
            let encoder = load_encoder(&header, file, &device)?;
            let set = images.prepared(&header.preprocessing)?;
            (encoder, header, set, file.display().to_string())
        }
        None => {
            let size = options.size.map_or_else(|| images.view(), Ok)?;
            check(count, size)?;
            train(&images, options.epochs, size, seed, (&device, &out))?
        }
    };
    let folder = RunFolder::open(&out)?;
    let (mean, std) = (header.preprocessing.mean, header.preprocessing.std);
    let normalization = Normalization { mean, std };
    let watch = progress::watch();
    let setting = Setting { device: &device, seed, normalization, watch: &watch };
    let subject = Subject::Set { images: &set, encoder: &encoder };
    let scan = PatchSearch { config: options.config.clone() };
    let findings = scan.scan(subject, &setting)?;
    let scan = DataScan::of(&findings, count, images.poisoned.as_ref());
    let positions = images.ids().into_iter().zip(0..).collect();
    let (images, set, findings, encoder) = (&images, &set, &findings, with.as_str());
    let page = Page { images, set, findings, scan, encoder, positions };
    let text = page.write(&folder)?;
    print!("{}", if options.json { text } else { page.summary(&out) });
    let found = findings.accused.len();
    match options.fail_above.filter(|allowed| found > *allowed) {
        Some(allowed) => Err(Suspected { found, allowed }.into()),
        None => Ok(()),
    }
}

/// A small encoder trained on the images for `epochs`, its header, the images prepared for it, and a description. Its
/// file is written to the folder `out`.
fn train(
    images: &ScanImages,
    epochs: Option<usize>,
    size: u32,
    seed: u64,
    (device, out): (&Device, &Path),
) -> Result<(Encoder, EncoderHeader, SampleSet, String)> {
    let count = images.split.labels.len();
    PatchSearch::check_count(count)?;
    let config = small_encoder(count, size, epochs);
    // Only its epochs are an option.
    config.check(Some(count), size).map_err(of_option)?;
    let header = encoder_header(config.encoder, size);
    let set = images.prepared(&header.preprocessing)?;
    let usual = small_encoder(count, size, None).train.epochs;
    if config.train.epochs < usual {
        eprintln!(
            "warning: --epochs {}: the default for {count} images is {usual}. An encoder that has learned little finds few \
             triggers",
            config.train.epochs
        );
    }
    let what = format!(
        "a ResNet-18 of width 16, trained by MoCo v2 on these {count} images at {size} px for {} epochs",
        config.train.epochs
    );
    eprintln!("no --encoder: training {what}");
    let since = Instant::now();
    let training = Training::new(set.clone(), seed, device);
    let encoder = pretrain(&config, None, size, &training, &mut Shown::new("encoder"))?;
    let seconds = since.elapsed().as_secs_f64();
    let file = RunFolder::open(out)?.join("encoder.safetensors");
    save_encoder(&encoder, &header, &file)?;
    eprintln!("the training took {seconds:.0} s; the encoder is {}", file.display());
    Ok((encoder, header, set, what))
}
