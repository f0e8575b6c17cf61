//! Does an encoder have a backdoor? Reconstructs its smallest triggers and compares them to those of clean encoders.
//!
//! ```sh
//! cargo run --release -- scan encoder clean.safetensors --images photos/ --write-null nulls
//! cargo run --release --example scan_an_encoder -- encoder.safetensors --images photos/ --null nulls
//! ```
//!
//! Does the same as `scan encoder`, from code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Device;
use clap::Parser;
use ssl_backdoor_data::{ImageFiles, Normalization, resized_set};
use ssl_backdoor_model::{EncoderHeader, load_encoder};
use ssl_backdoor_probe::evaluation_filter;
use ssl_backdoor_scan::{EncoderScans, NullScore, Nulls, Setting};

#[derive(Parser)]
#[command(about = "Judges an encoder by the smallest triggers that can be reconstructed for it")]
struct Args {
    /// The encoder file.
    encoder: PathBuf,
    /// A folder of clean images of the kind that it is for.
    #[arg(long)]
    images: PathBuf,
    /// Scores of clean encoders of the same kind, on the same images.
    #[arg(long)]
    null: Option<PathBuf>,
    /// Rounds of each reconstruction at most.
    #[arg(long)]
    rounds: Option<usize>,
}

fn main() -> Result<()> {
    let Args { encoder: file, images, null, rounds } = Args::parse();
    let header = EncoderHeader::read(&file)?.context("the file does not say what it holds")?;
    let device = Device::flex();
    let encoder = load_encoder(&header, &file, &device)?;
    let preprocessing = &header.preprocessing;
    let files = ImageFiles::read(&images, &|_, _, _| {})?;
    let filter = evaluation_filter(preprocessing);
    let set = resized_set(files.split.set, preprocessing.size, filter, true);

    let mut scans = EncoderScans::default();
    if let Some(rounds) = rounds {
        (scans.decree.rounds, scans.cleanse.rounds) = (rounds, rounds);
    }
    let normalization = Normalization { mean: preprocessing.mean, std: preprocessing.std };
    let setting = Setting { device: &device, seed: 1, normalization, watch: &|_, _, _| {} };
    let found = scans.scan(&encoder, &set, &setting)?.any()?;
    for (name, findings) in &found.found {
        println!("{name}: score {:.3}", findings.of_subject().unwrap_or(0.0));
        if let Some(evidence) = findings.evidence.first() {
            println!("{}: {name}.png", evidence.caption);
            evidence.picture.save(Path::new(name).with_extension("png"))?;
        }
    }

    let hash = blake3::hash(&std::fs::read(&file)?).to_hex().to_string();
    let own =
        scans.expected(&header, (hash, setting.seed), &scans.shown(&set, setting.seed)?, None);
    let own = NullScore { scores: found.scores(), ..own };
    let nulls = null.map_or_else(|| Ok(Nulls::default()), |folder| Nulls::read(&folder, &own))?;
    match nulls.together(&own) {
        Some(p) => println!("p = {:.3} among {} clean encoders", p.p, p.nulls),
        None => println!("Without scores of clean encoders there is no p-value."),
    }
    println!("{}", EncoderScans::BLIND);
    Ok(())
}
