//! How many poisoned images are enough? The same run with more and more of them.
//!
//! ```sh
//! cargo run --release --example rate_ablation -- --rates 0.05,0.25,0.5,1
//! ```

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ssl_backdoor::{Experiment, RunScores, Stage, run};

#[derive(Parser)]
#[command(about = "Net ASR against the share of the target class that is poisoned")]
struct Args {
    /// The experiment.
    #[arg(default_value = "configs/quickstart.toml")]
    config: PathBuf,
    /// Where the run folders go.
    #[arg(long, default_value = "runs/rate-ablation")]
    out: PathBuf,
    /// Shares of the target class, above 0 to 1.
    #[arg(long, value_delimiter = ',', default_value = "0.05,0.25,0.5,1")]
    rates: Vec<f64>,
    /// Overrides, KEY=VALUE.
    #[arg(long = "set")]
    sets: Vec<String>,
}

fn main() -> Result<()> {
    let Args { config, out, rates, sets } = Args::parse();
    let mut rows = Vec::new();
    let mut twin: Option<PathBuf> = None;
    for rate in rates {
        let mut experiment = Experiment::read(&config, &sets)?;
        experiment.defend.clear();
        experiment.probe.curve_every = 0;
        experiment.poison.rate = Some(rate);
        let folder = out.join(format!("rate-{rate}"));
        // The clean twin does not depend on the poison: that of the first run serves all.
        run(experiment, &folder, twin.as_deref(), Stage::Probe)?;
        let scores = RunScores::read(&folder.join("scores.json"))?;
        let [low, high] = scores.net_asr_ci.unwrap_or([f64::NAN; 2]);
        let net = scores.net_asr.unwrap_or(f64::NAN);
        rows.push(format!("{rate:>6} {:>7} {net:>8.1} [{low:.1}, {high:.1}]", scores.poison.count));
        twin.get_or_insert(folder);
    }
    println!("  rate  images  net ASR");
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}
