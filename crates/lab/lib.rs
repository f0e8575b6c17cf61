//! The laboratory: reads an experiment from a TOML file, runs its stages (poison, pretrain the clean
//! twin and the backdoored model, probe, report) in a run folder, and resumes where it stopped.
//!
//! The binary `ssl-backdoor` is a thin shell around this library.

mod commands;
mod config;
pub mod device;
mod interrupt;
mod made_by;
mod manifest;
mod progress;
mod published;
mod purpose;
mod report;
mod run_folder;
mod scores;
mod stages;
mod sweep;
mod trigger_size;
mod versioned;
mod watched;

pub use commands::{
    Cli, ConvertOptions, ForeignOptions, PoisonOptions, convert, parse_reference_config,
    print_clean_list, probe_foreign, run_export,
};
pub use config::{AttackConfig, ConfigError, Experiment};
pub use interrupt::end_on_ctrl_c;
pub use report::{ReportOptions, report};
pub use run_folder::RunFolder;
pub use scores::RunScores;
pub use stages::{Stage, run};
pub use sweep::{SweepOptions, read_sweep, sweep};
