//! The command `scan nulls`: clean encoders and their scan scores.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use burn::tensor::Device;
use clap::Args;
use ssl_backdoor_data::{Normalization, SampleSet};
use ssl_backdoor_fields::require;
use ssl_backdoor_model::save_encoder;
use ssl_backdoor_scan::{EncoderScans, NullScore, Setting};
use ssl_backdoor_ssl::{Training, encoder_header, pretrain};

use super::scan_encoder::{ScansArgs, check};
use super::scan_training::Shown;
use super::shared::{computing, of_option, path};
use crate::record::{hash_file, null_training};
use crate::run::progress;
use crate::{Experiment, device};

/// Train clean encoders and keep their scores for `scan encoder --null`.
///
/// Each encoder is the clean twin of the config with a seed of its own: the same images, method and settings, without
/// poison. It is scanned on the config's evaluation images, like `scan encoder --images CONFIG`, with the settings of the
/// config's [scan] table unless options change them. Existing scores are kept, so the same command resumes. Several
/// processes with different first seeds may fill one folder. Choose seeds that no encoder to be scanned was trained with.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ssl-backdoor scan nulls configs/quickstart.toml --out nulls/ --count 39"
)]
pub struct NullsArgs {
    /// The config of an experiment.
    #[arg(value_parser = path())]
    config: PathBuf,
    /// Folder for the scores.
    #[arg(long, value_name = "DIR", value_parser = path())]
    out: PathBuf,
    /// Number of clean encoders; n of them allow no p-value below 1/(1+n).
    #[arg(long, default_value_t = 39)]
    count: usize,
    /// Seed of the first training; the next trainings use the following seeds.
    #[arg(long, value_name = "SEED", default_value_t = 1001)]
    first_seed: u64,
    /// Seed of the scans, the same as for `scan encoder` [default: that of the config's [scan] table, or 1].
    #[arg(long)]
    seed: Option<u64>,
    /// Also keep the encoders.
    #[arg(long)]
    keep_encoders: bool,
    #[command(flatten)]
    scans: ScansArgs,
    /// Override a key of the config; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl NullsArgs {
    /// Trains and scans.
    ///
    /// # Errors
    /// As [`scan_nulls`].
    pub fn run(self) -> Result<()> {
        let Self { config, out, count, first_seed, seed, keep_encoders, scans, sets } = self;
        let experiment = Experiment::read(&config, &sets)?;
        let config = experiment.scan.clone().unwrap_or_default();
        let (seed, scans) = (seed.unwrap_or(config.seed), scans.over(&config));
        let options = NullsOptions { out, count, first_seed, seed, keep_encoders, scans };
        computing(|| scan_nulls(&experiment, &options))
    }
}

/// Options of null scores.
#[derive(Debug, Clone)]
pub struct NullsOptions {
    /// Folder for the scores.
    pub out: PathBuf,
    /// How many encoders.
    pub count: usize,
    /// Seed of the first training; the next trainings use the following seeds.
    pub first_seed: u64,
    /// Seed of the scans.
    pub seed: u64,
    /// Keep the encoders beside the scores.
    pub keep_encoders: bool,
    /// Settings of the scans.
    pub scans: EncoderScans,
}

/// Trains the clean encoders of `experiment` whose scores do not exist yet, and writes their scores.
///
/// # Errors
/// A [`ConfigError`](crate::ConfigError) if an option is wrong; another error if a training or a scan failed, or if an existing file belongs to
/// another training.
pub fn scan_nulls(experiment: &Experiment, options: &NullsOptions) -> Result<()> {
    let fits = (1..=100_000).contains(&options.count);
    let counted = require(fits, "count", options.count, "allowed are 1 to 100,000");
    counted.map_err(of_option)?;
    check(&options.scans)?;
    let source = &experiment.source;
    let device = device::open(&experiment.device).map_err(|e| source.wrong(e))?;
    let splits = experiment.data.load(&progress::watch())?;
    progress::say_left_out(&splits.left_out, &splits.skipped);
    let count = splits.train.labels.len();
    experiment.check_with(Some(count)).map_err(|wrong| source.wrong(wrong))?;
    let images = splits.prepared(&splits.eval);
    EncoderScans::check_count(images.len())?;
    let nulls = NullTrainings {
        experiment,
        options,
        device: &device,
        training: splits.pretrain_set(),
        fingerprint: &splits.fingerprint.train,
        shown: options.scans.shown(&images, options.seed)?,
        images,
    };
    std::fs::create_dir_all(&options.out)?;
    let mut scored = 0;
    for number in 0..options.count {
        let seed = options.first_seed.saturating_add(number as u64);
        let since = Instant::now();
        let (what, has_score) = nulls.one(seed)?;
        scored += usize::from(has_score);
        eprintln!(
            "{} of {}: seed {seed}: {what} ({:.0} s)",
            number + 1,
            options.count,
            since.elapsed().as_secs_f64()
        );
    }
    println!(
        "{scored} null scores in {}; they allow no p-value below {:.3}",
        options.out.display(),
        1.0 / (1 + scored) as f64
    );
    Ok(())
}

/// The inputs that all clean encoders share.
struct NullTrainings<'a> {
    experiment: &'a Experiment,
    options: &'a NullsOptions,
    device: &'a Device,
    training: &'a SampleSet,
    fingerprint: &'a str,
    /// The images of the scans, and their hash.
    images: SampleSet,
    shown: String,
}

impl NullTrainings<'_> {
    /// Trains and scans the encoder of `seed`, unless its score exists; returns the outcome as text, and whether a scan
    /// gave a score.
    fn one(&self, seed: u64) -> Result<(String, bool)> {
        let Self { experiment, options, device, .. } = self;
        let (size, config) = (experiment.data.size(), &experiment.pretrain);
        let header = encoder_header(config.encoder, size);
        let training = null_training(config, self.fingerprint, seed)?;
        let stem = format!("seed-{seed}");
        let kept = options.out.join(format!("{stem}.json"));
        let hash = String::new();
        let wanted = options.scans.expected(&header, (hash, options.seed), &self.shown, training);
        if kept.is_file() {
            let score = NullScore::read(&kept)?;
            return match wanted.differs(&score) {
                None => Ok(("exists already".into(), !score.scores.is_empty())),
                Some(reason) => bail!("{}: {reason}: choose another folder", kept.display()),
            };
        }
        let encoder = {
            let training = Training {
                workers: experiment.workers,
                ..Training::new(self.training.clone(), seed, device)
            };
            pretrain(config, None, size, &training, &mut Shown::new(&stem))?
        };
        let file = options.out.join(format!("{stem}.safetensors"));
        save_encoder(&encoder, &header, &file)?;
        let hash = hash_file(&file)?;
        if !options.keep_encoders {
            std::fs::remove_file(&file)?;
        }
        let watch = progress::watch();
        let (mean, std) = (header.preprocessing.mean, header.preprocessing.std);
        let setting = Setting {
            device,
            seed: options.seed,
            normalization: Normalization { mean, std },
            watch: &watch,
        };
        let found = options.scans.scan(&encoder, &self.images, &setting)?;
        // An encoder on which a scan has no result counts in no p-value of that scan; it is not trained again.
        found.refused.iter().for_each(|error| eprintln!("seed {seed}: {error}"));
        let score = NullScore { hash, scores: found.scores(), ..wanted };
        score.write(&options.out)?;
        if score.scores.is_empty() {
            return Ok(("no score".into(), false));
        }
        let scores: Vec<String> =
            score.scores.iter().map(|(scan, score)| format!("{scan} {score:.3}")).collect();
        Ok((scores.join(", "), true))
    }
}
