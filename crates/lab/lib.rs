//! The laboratory: reads an experiment from a TOML file, runs its stages (poison, pretrain the clean
//! twin and the backdoored model, probe, report) in a run folder, and resumes where it stopped.
//!
//! The binary `ssl-backdoor` is a thin wrapper around this library.

mod commands;
mod config;
pub mod device;
mod purpose;
mod record;
mod report;
mod run;
mod shell;
mod sweep;

pub use commands::{
    Cli, ConvertOptions, DataScanOptions, EncoderScanOptions, ExternalOptions, NullsOptions,
    PoisonOptions, Suspected, convert, print_clean_list, probe_external, run_export, scan_data,
    scan_encoder, scan_nulls,
};
pub use config::{AttackConfig, ConfigError, Experiment};
pub use record::{Images, ProbeId, RunScores};
pub use report::{ReportOptions, report};
pub use run::{RunFolder, Stage, TRY_AGAIN, end_when_asked, preempted, run};
pub use sweep::{
    SlurmOptions, SweepOptions, SweepSource, collect_sweep, read_sweep, submit_sweep, sweep,
    sweep_status,
};
