//! The command line of `ssl-backdoor`. Exit status: 0 done, 1 the run failed, 2 the command line or
//! the config is wrong.

mod cli;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use ssl_backdoor::{
    ConfigError, ConvertOptions, Experiment, ForeignOptions, PoisonOptions, ReportOptions,
    SweepOptions,
};
use ssl_backdoor_kernels as kernels;

fn main() -> ExitCode {
    // `ssl-backdoor poison --clean DIR | head` ends when `head` does, as any other command would.
    sigpipe::reset();
    let mut command = Cli::parse().command;
    command.paths_mut().into_iter().for_each(ssl_backdoor::expand_home);
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let wrong_config = error.chain().any(|cause| cause.is::<ConfigError>());
            ExitCode::from(if wrong_config { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<()> {
    ssl_backdoor::end_on_ctrl_c()?;
    match command {
        Command::Run { config, out, sets, twin, until } => {
            let experiment = Experiment::read(&config, &sets)?;
            let out = out.unwrap_or_else(|| PathBuf::from("runs").join(&experiment.name));
            computing(|| ssl_backdoor::run(experiment, &out, twin.as_deref(), until))
        }
        Command::Sweep { file, jobs, devices, sets, dry_run } => {
            let options = SweepOptions { jobs, devices, sets, dry_run };
            computing(|| ssl_backdoor::sweep(&file, &options))
        }
        Command::Report { runs, out } => ssl_backdoor::report(&ReportOptions { runs, out }),
        Command::Poison { clean: Some(dir), .. } => ssl_backdoor::print_clean_list(&dir),
        Command::Poison { config, out, sets, lossless, clean: None } => {
            let options = PoisonOptions { out, sets, lossless };
            ssl_backdoor::run_export(&config.unwrap_or_default(), options)
        }
        Command::Verify { dir } => ssl_backdoor::print_verified(&dir),
        Command::Probe { encoder, config, out, sets } => {
            let options = ForeignOptions { encoder, config, out, sets };
            computing(|| ssl_backdoor::probe_foreign(&options))
        }
        Command::Convert { input, output, backbone, import } => {
            let import = import.into();
            ssl_backdoor::convert(&ConvertOptions { input, output, backbone, import })
        }
        Command::Doctor => computing(ssl_backdoor::doctor),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "ssl-backdoor", &mut io::stdout());
            Ok(())
        }
        Command::Man { dir } => clap_mangen::generate_to(Cli::command(), &dir)
            .with_context(|| format!("cannot write manual pages to {}", dir.display())),
    }
}

/// Runs `work` as a training wants it: on the kernels' pool, with an allocator that keeps what it has.
fn computing(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    kernels::keep_freed_memory();
    kernels::on_pool(work)
}
