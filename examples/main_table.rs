//! The paper's main table: every method against every pair of target and trigger, one run after the other.
//!
//! ```sh
//! cargo run --release --example main_table -- configs/shapes/table.toml
//! ```
//!
//! `ssl-backdoor sweep` does the same with several processes, and trains a shared clean twin only once.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ssl_backdoor::{ReportOptions, Stage, read_sweep, report, run};

#[derive(Parser)]
#[command(about = "Runs a sweep in this process and writes table.html, table.md and table.csv")]
struct Args {
    /// The sweep.
    #[arg(default_value = "configs/shapes/table.toml")]
    sweep: PathBuf,
    /// Where the run folders and the table go.
    #[arg(long, default_value = "runs/main-table")]
    out: PathBuf,
    /// Train only this many epochs, as a trial.
    #[arg(long)]
    epochs: Option<usize>,
}

fn main() -> Result<()> {
    let Args { sweep, out, epochs } = Args::parse();
    for (i, mut experiment) in read_sweep(&sweep)?.into_iter().enumerate() {
        experiment.pretrain.train.epochs = epochs.unwrap_or(experiment.pretrain.train.epochs);
        let folder = out.join(format!("{i:02}-{}", experiment.pretrain.method.settings().name()));
        run(experiment, &folder, None, Stage::Probe)?;
    }
    report(&ReportOptions { runs: vec![out], out: None, json: false, claims: true, planned: None })
}
