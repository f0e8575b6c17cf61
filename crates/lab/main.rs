//! The command line of `ssl-backdoor`. Exit status: 0 done, 1 the run failed, 2 the command line or
//! the config is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ssl_backdoor::{ConfigError, Experiment, Stage};
use ssl_backdoor_kernels as kernels;

/// Backdoor attacks on self-supervised learning: poison, pretrain, probe, report.
///
/// Reproduces and measures the attack of Saha et al. (CVPR 2022) for research on defences.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  ssl-backdoor run configs/quickstart.toml")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an experiment from poison to report, or go on where it stopped.
    ///
    /// Trains a clean twin and a backdoored model that share everything but the poisoned pixels,
    /// probes both, and writes scores.json, report.html and report.md to the run folder. Running
    /// the same command again resumes; finished stages are skipped.
    #[command(after_help = "Examples:\n  ssl-backdoor run configs/quickstart.toml\n  \
        ssl-backdoor run configs/quickstart.toml --set seed=7 --out runs/seed-7\n  \
        ssl-backdoor run configs/fashion-mnist/moco-v2.toml --until poison")]
    Run {
        /// The experiment, a TOML file.
        config: PathBuf,
        /// The run folder [default: runs/NAME, NAME from the config].
        #[arg(long)]
        out: Option<PathBuf>,
        /// Override a key of the config, for example pretrain.epochs=2; may be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Take the clean twin from this run folder, of the same settings, instead of training one.
        #[arg(long, value_name = "DIR")]
        twin: Option<PathBuf>,
        /// Stop after this stage.
        #[arg(long, value_enum, default_value = "report")]
        until: Stage,
    },
    /// Run a grid of experiments, or go on where it stopped.
    ///
    /// FILE names a base config and axes; every combination of their points is a run in its own folder and
    /// process. Runs that share images, method and seed share a clean twin, which is trained once. A run that
    /// fails is reported, the others go on.
    #[command(
        after_help = "Examples:\n  ssl-backdoor sweep configs/fashion-mnist/table.toml --dry-run\n  \
        ssl-backdoor sweep configs/fashion-mnist/table.toml --jobs 2"
    )]
    Sweep {
        /// The sweep, a TOML file.
        file: PathBuf,
        /// Runs at the same time, each with its share of the cores.
        #[arg(long, default_value = "1")]
        jobs: usize,
        /// Override a key of every run, for example device=cuda:0; may be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Check every config, say what would be trained, and how long it would take.
        #[arg(long)]
        dry_run: bool,
    },
    /// The paper's tables over many runs: table.html, table.md and table.csv.
    ///
    /// Takes every run (a folder with scores.json) in the given folders, groups those that differ in target,
    /// trigger and seed only, and puts the published figures beside them.
    #[command(after_help = "Examples:\n  ssl-backdoor report results/fashion-mnist\n  \
        ssl-backdoor report runs/a runs/b --out /tmp/comparison")]
    Report {
        /// Run folders, or folders of run folders.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where the report goes [default: the first of RUNS].
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Export a poisoned data set: images, file lists and ledger, in the layout of the paper's code.
    ///
    /// Reads only [data] and [poison] of a config, or one of the reference's INI files (*.cfg). Poisoned
    /// training images replace the originals in the training list; every validation image is resized,
    /// cropped and patched. The ledgers (poison.csv, val_poisoned.csv) say what was done to each image.
    #[command(
        after_help = "Examples:\n  ssl-backdoor poison configs/quickstart.toml --out /tmp/poisoned\n  \
        ssl-backdoor poison HTBA_trigger_10_targeted_n02106550.cfg\n  \
        ssl-backdoor poison --clean /tmp/poisoned > clean_filelist.txt"
    )]
    Poison {
        /// The experiment (TOML), or a config of the reference (*.cfg).
        #[arg(required_unless_present = "clean")]
        config: Option<PathBuf>,
        /// Where to export; must not exist or be empty [default for *.cfg: its poison_savedir].
        #[arg(long)]
        out: Option<PathBuf>,
        /// Override a key of the config; may be repeated. For a *.cfg: seed and size only.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Write PNG instead of JPEG of quality 75.
        #[arg(long)]
        lossless: bool,
        /// Print the training list of this export with every poisoned image put back.
        #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "out", "lossless"])]
        clean: Option<PathBuf>,
    },
    /// Rebuild an export from its ledgers and compare it byte for byte.
    ///
    /// Names every file that was changed, is missing, or is in no ledger. Exit status 1 if there is one.
    #[command(after_help = "Example:\n  ssl-backdoor verify /tmp/poisoned")]
    Verify {
        /// The folder that `poison` wrote.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let wrong_config = error.chain().any(|cause| cause.is::<ConfigError>());
            ExitCode::from(if wrong_config { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let (config, out, sets, twin, until) = match cli.command {
        Command::Run { config, out, sets, twin, until } => (config, out, sets, twin, until),
        Command::Poison { clean: Some(dir), .. } => return ssl_backdoor::print_clean_list(&dir),
        Command::Poison { config, out, sets, lossless, clean: None } => {
            let config = config.unwrap_or_default();
            let options = ssl_backdoor::PoisonOptions { out, sets, lossless };
            return ssl_backdoor::run_export(&config, options);
        }
        Command::Sweep { file, jobs, sets, dry_run } => {
            kernels::keep_freed_memory();
            return kernels::on_pool(|| {
                let options = ssl_backdoor::SweepOptions { jobs, sets, dry_run };
                ssl_backdoor::sweep(&file, &options)
            });
        }
        Command::Report { runs, out } => {
            return ssl_backdoor::report(&ssl_backdoor::ReportOptions { runs, out });
        }
        Command::Verify { dir } => return ssl_backdoor::print_verified(&dir),
    };
    let experiment = Experiment::read(&config, &sets)?;
    let out = out.unwrap_or_else(|| PathBuf::from("runs").join(&experiment.name));
    kernels::keep_freed_memory();
    kernels::on_pool(|| ssl_backdoor::run(&config, experiment, &out, twin.as_deref(), until))
}
