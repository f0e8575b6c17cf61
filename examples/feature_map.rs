//! The paper's t-SNE figure: where patched images lie among clean ones in the features of the clean twin and of the
//! backdoored model.
//!
//! ```sh
//! cargo run --release --example feature_map
//! ```
//!
//! The two maps are drawn in `report.html`; this prints the number that summarises them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use ssl_backdoor::{Experiment, RunScores, Stage};

#[derive(Parser)]
#[command(about = "Says how many patched images lie among the target's clean ones")]
struct Args {
    /// The experiment.
    #[arg(default_value = "configs/quickstart.toml")]
    config: PathBuf,
    /// The run folder.
    #[arg(long, default_value = "runs/feature-map")]
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
    for model in ["clean", "backdoored"] {
        let share = scores.target_neighbour_share.get(model).context("the attack has no target")?;
        println!("{model}: {share:.1} % of the patched images lie among the target's");
    }
    Ok(())
}
