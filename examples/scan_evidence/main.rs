//! How good the scans are, over many runs with known ground truth: ROC areas and false alarms of the encoder scans,
//! precision and recall of the image scan.
//!
//! ```sh
//! cargo run --release --example scan_evidence -- runs/table --null nulls --clean more-clean --out evidence
//! ```
//!
//! Every folder below the given ones that holds a `config.toml` counts, with `clean/encoder.safetensors`,
//! `backdoored/encoder.safetensors` and its `scores.json`, as in runs and the twins of sweeps. More clean encoders
//! come as scores from `scan nulls` (`--clean`); no other encoder has their seeds, nor those of the nulls. Finished
//! scans are not repeated, so the program can be stopped and resumed. The sets that are scanned are those of the
//! first method, spread evenly over its runs in the order of their names. Runs with the same drawings have the same clean
//! set; it is scanned with each of their encoders.

mod encoders;
mod runs;
mod sets;
mod tables;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ssl_backdoor_scan::{EncoderScans, Nulls, PatchSearchConfig};

#[derive(Parser)]
#[command(about = "ROC areas, false alarms, precision and recall of the scans over many runs")]
struct Args {
    /// Folders of run folders.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Folder with null scores of clean encoders of a method; may be repeated.
    #[arg(long, required = true)]
    null: Vec<PathBuf>,
    /// Scores of more clean encoders, which are scored and are no nulls.
    #[arg(long)]
    clean: Option<PathBuf>,
    /// Fewest nulls that each scored encoder needs; n of them allow no p-value below 1/(1+n).
    #[arg(long, default_value_t = 39)]
    least: usize,
    /// Where scans and tables go.
    #[arg(long)]
    out: PathBuf,
    /// Scans of poisoned sets, and as many of clean sets.
    #[arg(long, default_value_t = 10)]
    sets: usize,
    /// Rounds of each reconstruction at most, as those of the nulls [default: 200, by cluster 60].
    #[arg(long)]
    rounds: Option<usize>,
    /// Networks that learn the strongest patches.
    #[arg(long)]
    networks: Option<usize>,
    /// Optimisation steps of a network at most.
    #[arg(long)]
    steps: Option<usize>,
}

fn main() -> Result<()> {
    let Args { runs, null, clean, least, out, sets, rounds, networks, steps } = Args::parse();
    let runs = runs::find(&runs)?;
    let mut scans = EncoderScans::default();
    if let Some(rounds) = rounds {
        (scans.decree.rounds, scans.cleanse.rounds) = (rounds, rounds);
    }
    let mut nulls = Vec::new();
    for folder in &null {
        nulls.extend(Nulls::all(folder)?.into_iter().map(|(_, score)| score));
    }
    let more = clean.map_or_else(|| Ok(Vec::new()), |folder| Nulls::all(&folder))?;
    let (scored, refused) = encoders::scored(&runs, more, &scans, &out)?;
    let judged = encoders::judged(scored, nulls, least)?;

    let search = PatchSearchConfig { networks, steps, ..PatchSearchConfig::default() };
    let scanned = sets::scanned(&runs, sets, &search, &out)?;
    let text = tables::write(&judged, &refused, &scanned, &out)?;
    println!("{text}");
    Ok(())
}
