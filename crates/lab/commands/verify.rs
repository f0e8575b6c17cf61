//! The command `verify`: checks that an export is unchanged.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use ssl_backdoor_data::verify;

use super::shared::existing;
use crate::run::progress;

/// Rebuild an export from its ledgers and compare it byte for byte.
///
/// Names every file that was changed, is missing, or is not in a ledger. The exit status is 1 if there is one.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ssl-backdoor verify /tmp/poisoned")]
pub struct VerifyArgs {
    /// The folder written by `poison`.
    #[arg(value_parser = existing())]
    dir: PathBuf,
}

impl VerifyArgs {
    /// Verifies the export.
    ///
    /// # Errors
    /// The config is wrong, or the work failed.
    pub fn run(self) -> Result<()> {
        print_verified(&self.dir)
    }
}

/// Verifies the export in `folder` and prints the result.
///
/// # Errors
/// The export cannot be read, or differs from its ledgers.
pub fn print_verified(folder: &Path) -> Result<()> {
    let verified = verify(folder, &progress::watch())?;
    for note in &verified.notes {
        eprintln!("note: {note}");
    }
    for problem in &verified.problems {
        println!("{problem}");
    }
    if !verified.problems.is_empty() {
        bail!("{} of {} files differ from the export", verified.problems.len(), verified.files);
    }
    println!("{} files are unchanged", verified.files);
    Ok(())
}
