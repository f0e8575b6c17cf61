//! The laboratory: reads an experiment from a TOML file, runs its stages (poison, pretrain the clean
//! twin and the backdoored model, probe, report) in a run folder, and resumes where it stopped.
//!
//! The binary `ssl-backdoor` is a thin shell around this library.

mod attack_config;
pub mod config;
mod config_error;
mod config_read;
mod config_table;
mod config_tree;
mod convert;
pub mod device;
mod doctor;
mod export;
mod foreign;
mod home;
mod interrupt;
mod made_by;
mod manifest;
mod progress;
mod published;
mod reference_config;
mod report;
mod run_folder;
mod scores;
mod stages;
mod sweep;
mod trigger_size;
mod versioned;
mod watched;

pub use attack_config::AttackConfig;
pub use config::Experiment;
pub use config_table::ConfigError;
pub use convert::{ConvertOptions, convert};
pub use doctor::doctor;
pub use export::{PoisonOptions, print_clean_list, print_verified, run_export};
pub use foreign::{ForeignOptions, probe_foreign};
pub use home::expand_home;
pub use interrupt::end_on_ctrl_c;
pub use reference_config::parse_reference_config;
pub use report::{ReportOptions, report};
pub use run_folder::RunFolder;
pub use scores::RunScores;
pub use stages::{Stage, run};
pub use sweep::{SweepOptions, read_sweep, sweep};
