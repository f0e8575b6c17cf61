//! The paper's defence slide: CompReSS distils the backdoored model on clean subsets of several sizes. A student that
//! never saw the trigger does not respond to it.
//!
//! ```sh
//! cargo run --release --example defend_with_compress
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use ssl_backdoor::{Experiment, Images, RunScores, Stage};
use ssl_backdoor_defend::DefendConfig;

#[derive(Parser)]
#[command(about = "Distils a backdoored model on clean images and scores the student")]
struct Args {
    /// The experiment, with a [defend] table.
    #[arg(default_value = "configs/quickstart.toml")]
    config: PathBuf,
    /// The run folder.
    #[arg(long, default_value = "runs/defend-with-compress")]
    out: PathBuf,
    /// Shares of the training images that the defender knows to be clean.
    #[arg(long, value_delimiter = ',', default_value = "0.25,0.1")]
    clean: Vec<f64>,
    /// Overrides, KEY=VALUE.
    #[arg(long = "set")]
    sets: Vec<String>,
}

fn main() -> Result<()> {
    let Args { config, out, clean, sets } = Args::parse();
    let mut experiment = Experiment::read(&config, &sets)?;
    let [DefendConfig::Compress(compress)] = &mut experiment.defend[..] else {
        anyhow::bail!("{} has no [defend] table of the kind compress alone", config.display());
    };
    compress.clean = clean;
    ssl_backdoor::run(experiment, &out, None, Stage::Report)?;

    let scores = RunScores::read(&out.join("scores.json"))?;
    for model in scores.models.keys() {
        let of = |images| scores.get(model.as_str(), images).context("the model was not scored");
        let (clean, patched) = (of(Images::Clean)?, of(Images::Patched)?);
        println!(
            "{model:>16}: Acc {:.1} %, ASR {:.1} %",
            clean.acc,
            patched.asr.unwrap_or(f64::NAN)
        );
    }
    Ok(())
}
