//! The command `man`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};

use super::{Cli, path};

/// Write the manual pages, one for each command.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ssl-backdoor man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// A folder that is there.
    #[arg(value_parser = path())]
    dir: PathBuf,
}

impl ManArgs {
    /// Does it.
    ///
    /// # Errors
    /// The config is wrong, or the work failed.
    pub fn run(self) -> Result<()> {
        let Self { dir } = self;
        clap_mangen::generate_to(Cli::command(), &dir)
            .with_context(|| format!("cannot write manual pages to {}", dir.display()))
    }
}
