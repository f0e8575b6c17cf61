//! The command `report`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::shared::{existing, path};
use crate::{ReportOptions, report};

/// Write tables over many runs: table.html, table.md and table.csv.
///
/// Reads every run (a folder with scores.json) in the given folders, groups runs that differ only in target, trigger
/// and seed, tests the paper's claims, and shows the published figures for comparison.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ssl-backdoor report results/fashion-mnist\n  \
    ssl-backdoor report runs/a runs/b --out /tmp/comparison")]
pub struct ReportArgs {
    /// Run folders, or folders of run folders.
    #[arg(required = true, value_parser = existing())]
    runs: Vec<PathBuf>,
    /// Output folder [default: the first of RUNS].
    #[arg(long, value_parser = path())]
    out: Option<PathBuf>,
    /// Print the tables and claims as JSON.
    #[arg(long)]
    json: bool,
    /// Do not test the paper's claims, for runs that were not planned as a test of them.
    #[arg(long)]
    no_claims: bool,
}

impl ReportArgs {
    /// Writes the report.
    ///
    /// # Errors
    /// The config is wrong, or the work failed.
    pub fn run(self) -> Result<()> {
        let Self { runs, out, json, no_claims } = self;
        report(&ReportOptions { runs, out, json, claims: !no_claims, planned: None })
    }
}
