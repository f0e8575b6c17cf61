//! One row of the paper's table 1: a clean twin and a backdoored model, probed on clean and on patched images.
//!
//! ```sh
//! cargo run --release --example targeted_attack
//! ```
//!
//! Does the same as the binary's `run`, from code: the attack, two trainings, the probe, the report.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use ssl_backdoor::{Experiment, Images, RunScores, Stage};

#[derive(Parser)]
#[command(about = "Trains a clean twin and a backdoored model and compares them")]
struct Args {
    /// The experiment.
    #[arg(default_value = "configs/quickstart.toml")]
    config: PathBuf,
    /// The run folder.
    #[arg(long, default_value = "runs/targeted-attack")]
    out: PathBuf,
    /// Overrides, KEY=VALUE.
    #[arg(long = "set")]
    sets: Vec<String>,
}

fn main() -> Result<()> {
    let Args { config, out, sets } = Args::parse();
    let mut experiment = Experiment::read(&config, &sets)?;
    experiment.defend.clear();
    ssl_backdoor::run(experiment, &out, None, Stage::Report)?;

    let scores = RunScores::read(&out.join("scores.json"))?;
    let patched = |model| scores.get(model, Images::Patched).context("the model was not scored");
    let [twin, backdoored] = [patched("clean")?, patched("backdoored")?];
    println!(
        "With the trigger, {} of {} images of other classes are called {:?} by the backdoored model, {} by its twin.",
        backdoored.fp.unwrap_or(0),
        scores.images,
        scores.target_name.as_deref().unwrap_or("the target"),
        twin.fp.unwrap_or(0),
    );
    Ok(())
}
