//! The paper's untargeted attack: the trigger on images of every class. No class gains; the score is the accuracy
//! that patched images lose against the clean twin.
//!
//! ```sh
//! cargo run --release --example untargeted_attack
//! ```

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ssl_backdoor::{Experiment, RunScores, Stage};

#[derive(Parser)]
#[command(about = "Poisons images of all classes and measures what accuracy that costs")]
struct Args {
    /// The experiment; its target and rate are not used.
    #[arg(default_value = "configs/quickstart.toml")]
    config: PathBuf,
    /// The run folder.
    #[arg(long, default_value = "runs/untargeted-attack")]
    out: PathBuf,
    /// Share of the whole training set that is poisoned.
    #[arg(long, default_value_t = 0.05)]
    rate: f64,
    /// Overrides, KEY=VALUE.
    #[arg(long = "set")]
    sets: Vec<String>,
}

fn main() -> Result<()> {
    let Args { config, out, rate, sets } = Args::parse();
    let mut experiment = Experiment::read(&config, &sets)?;
    experiment.defend.clear();
    let poison = &mut experiment.poison;
    (poison.target, poison.rate, poison.count) = (None, None, None);
    poison.dataset_rate = Some(rate);
    ssl_backdoor::run(experiment, &out, None, Stage::Report)?;

    let scores = RunScores::read(&out.join("scores.json"))?;
    let [low, high] = scores.patched_drop_ci;
    println!("Lost on patched images: {:.1} points [{low:.1}, {high:.1}]", scores.patched_drop);
    Ok(())
}
