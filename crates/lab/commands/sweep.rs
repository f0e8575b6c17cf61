//! The command `sweep`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::shared::{computing, path};
use crate::{SweepOptions, sweep};

/// Run or resume a grid of experiments.
///
/// FILE names a base config and axes; every combination of their points is a run in its own folder and process. Runs with
/// the same images, method and seed share a clean twin, which is trained once. If a run fails, it is reported and the
/// others continue.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ssl-backdoor sweep configs/fashion-mnist/table.toml --dry-run\n  \
    ssl-backdoor sweep configs/fashion-mnist/table.toml --jobs 2\n  \
    ssl-backdoor sweep configs/imagenet100/table.toml --devices cuda:0,cuda:1"
)]
pub struct SweepArgs {
    /// The sweep, a TOML file.
    #[arg(value_parser = path())]
    file: PathBuf,
    /// Number of parallel runs, each with its share of the cores.
    #[arg(long, default_value = "1")]
    jobs: usize,
    /// Run one process on each of these devices, for example cuda:0,cuda:1, instead of --jobs.
    #[arg(long, value_delimiter = ',', conflicts_with = "jobs")]
    devices: Vec<String>,
    /// Override a key of every run, for example pretrain.epochs=2; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Check every config, and print what would be trained and how long it would take.
    #[arg(long)]
    dry_run: bool,
}

impl SweepArgs {
    /// Runs the sweep.
    ///
    /// # Errors
    /// The config is wrong, or the work failed.
    pub fn run(self) -> Result<()> {
        let Self { file, jobs, devices, sets, dry_run } = self;
        let options = SweepOptions { jobs, devices, sets, dry_run };
        computing(|| sweep(&file, &options))
    }
}
