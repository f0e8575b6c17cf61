//! The command `completions`.

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;

/// Print the completions of a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ssl-backdoor completions bash > ~/.local/share/bash-completion/completions/ssl-backdoor"
)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

impl CompletionsArgs {
    /// Does it.
    ///
    /// # Errors
    /// The config is wrong, or the work failed.
    pub fn run(self) -> Result<()> {
        generate(self.shell, &mut Cli::command(), "ssl-backdoor", &mut std::io::stdout());
        Ok(())
    }
}
