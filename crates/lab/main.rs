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
        /// Stop after this stage.
        #[arg(long, value_enum, default_value = "report")]
        until: Stage,
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
    let Command::Run { config, out, sets, until } = cli.command;
    let experiment = Experiment::read(&config, &sets)?;
    let out = out.unwrap_or_else(|| PathBuf::from("runs").join(&experiment.name));
    kernels::keep_freed_memory();
    kernels::on_pool(|| ssl_backdoor::run(&config, experiment, &out, until))
}
