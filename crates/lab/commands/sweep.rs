//! The command `sweep`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgGroup, Args};

use super::shared::{computing, path};
use super::sweep_slurm::SlurmArgs;
use crate::{SweepOptions, SweepSource, collect_sweep, submit_sweep, sweep, sweep_status};

/// Run or resume a grid of experiments.
///
/// FILE names a base config and axes; every combination of their points is a run in its own folder and process. Runs with
/// the same images, method and seed share a clean twin, which is trained once. If a run fails, it is reported and the
/// others continue.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("shown").args(["dry_run", "status", "collect"]),
    after_help = "Examples:\n  ssl-backdoor sweep configs/fashion-mnist/table.toml --dry-run\n  \
    ssl-backdoor sweep configs/fashion-mnist/table.toml --jobs 2\n  \
    ssl-backdoor sweep configs/fashion-mnist/table.toml --status\n  \
    ssl-backdoor sweep configs/imagenet100/table.toml --devices cuda:0,cuda:1\n  \
    ssl-backdoor sweep configs/imagenet100/table.toml --slurm --partition gpu --gres gpu:1 --time 8:00:00 \
    --cpus-per-task 8 --max-parallel 4"
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
    /// Folder of the run folders, in place of the sweep file's `out`.
    #[arg(long, value_name = "DIR", value_parser = path())]
    out: Option<PathBuf>,
    /// Folder in which the figures of finished runs are kept, in place of the sweep file's `results`.
    #[arg(long, value_name = "DIR", value_parser = path())]
    results: Option<PathBuf>,
    /// Override a key of every run, for example pretrain.epochs=2; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Check every config, and print what would be trained and how long it would take.
    #[arg(long)]
    dry_run: bool,
    /// Only say which runs are done, running, failed, unfinished or not begun, by their folders.
    #[arg(long, conflicts_with_all = ["jobs", "devices", "dry_run", "slurm", "collect"])]
    status: bool,
    /// Print what --dry-run, --status or --collect shows as JSON.
    #[arg(long, requires = "shown")]
    json: bool,
    /// Only keep the figures of the finished runs and write the tables over them (table.html, table.md,
    /// table.csv). Exit status 1 if runs are left to do.
    #[arg(long, conflicts_with_all = ["jobs", "devices", "dry_run", "slurm"])]
    collect: bool,
    #[command(flatten)]
    slurm: SlurmArgs,
}

impl SweepArgs {
    /// Runs the sweep.
    ///
    /// # Errors
    /// The config is wrong, or the work failed.
    pub fn run(self) -> Result<()> {
        let Self { file, jobs, devices, out, results, sets, dry_run, status, json, collect, slurm } =
            self;
        let source = SweepSource { file, sets, out, results };
        if status {
            return sweep_status(&source, json);
        }
        if collect {
            return collect_sweep(&source, json);
        }
        if slurm.slurm {
            return submit_sweep(&source, &slurm.options());
        }
        computing(|| sweep(&source, &SweepOptions { jobs, devices, dry_run, json }))
    }
}
