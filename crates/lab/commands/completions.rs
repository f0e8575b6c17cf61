//! The command `completions`.

use clap::Args;
use clap_complete::{Shell, generate};

/// Print shell completions.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ssl-backdoor completions bash > ~/.local/share/bash-completion/completions/ssl-backdoor"
)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the completions of `cli`.
    pub fn run(self, cli: &mut clap::Command) {
        generate(self.shell, cli, "ssl-backdoor", &mut std::io::stdout());
    }
}
