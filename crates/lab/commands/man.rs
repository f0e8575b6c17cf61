//! The command `man`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::shared::path;

/// Write a manual page for each command.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ssl-backdoor man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// An existing folder.
    #[arg(value_parser = path())]
    dir: PathBuf,
}

impl ManArgs {
    /// Writes the pages of `cli`.
    ///
    /// # Errors
    /// A page cannot be written.
    pub fn run(self, cli: clap::Command) -> Result<()> {
        let Self { dir } = self;
        clap_mangen::generate_to(cli, &dir)
            .with_context(|| format!("cannot write manual pages to {}", dir.display()))
    }
}
