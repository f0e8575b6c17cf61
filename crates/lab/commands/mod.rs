//! The command line: one file for each command, with its help.

mod completions;
mod convert;
mod doctor;
mod import_args;
mod init;
mod list;
mod man;
mod poison;
mod probe;
mod reference_config;
mod reference_keys;
mod report;
mod run;
mod run_folders;
mod scan;
mod scan_data;
mod scan_encoder;
mod scan_images;
mod scan_nulls;
mod scan_page;
mod scan_training;
mod schema;
mod shared;
mod show;
mod sweep;
mod sweep_slurm;
mod verify;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

pub use convert::{ConvertOptions, convert};
pub use poison::{PoisonOptions, print_clean_list, run_export};
pub use probe::{ExternalOptions, probe_external};
#[cfg(test)]
pub(crate) use reference_config::parse_reference_config;
pub use scan_data::{DataScanOptions, Suspected, scan_data};
pub use scan_encoder::{EncoderScanOptions, scan_encoder};
pub use scan_nulls::{NullsOptions, scan_nulls};

use shared::computing;

/// Backdoor attacks on self-supervised learning: poison, pretrain, probe, report.
///
/// Reproduces and measures the attack of Saha et al. (CVPR 2022), for research on defences.
#[derive(Debug, Parser)]
#[command(
    name = "ssl-backdoor",
    version = env!("SSL_BACKDOOR_VERSION"),
    after_help = "Example:\n  ssl-backdoor run configs/quickstart.toml"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Run(run::RunArgs),
    Sweep(sweep::SweepArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Report(report::ReportArgs),
    Poison(poison::PoisonArgs),
    Verify(verify::VerifyArgs),
    Probe(probe::ProbeArgs),
    Scan(scan::ScanArgs),
    Convert(convert::ConvertArgs),
    Schema(schema::SchemaArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// A [`ConfigError`](crate::ConfigError) if the command line or the config is wrong, another error if the work
    /// failed.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Init(args) => args.run(),
            Command::Run(args) => args.run(),
            Command::Sweep(args) => args.run(),
            Command::List(args) => args.run(),
            Command::Show(args) => args.run(),
            Command::Report(args) => args.run(),
            Command::Poison(args) => args.run(),
            Command::Verify(args) => args.run(),
            Command::Probe(args) => args.run(),
            Command::Scan(args) => args.run(),
            Command::Convert(args) => args.run(),
            Command::Schema(args) => args.run(),
            Command::Doctor(args) => computing(|| args.run()),
            Command::Completions(args) => {
                args.run(&mut Self::command());
                Ok(())
            }
            Command::Man(args) => args.run(Self::command()),
        }
    }
}
