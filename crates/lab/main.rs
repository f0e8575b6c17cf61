//! The command line of `ssl-backdoor`. Exit status: 0 done, 1 the run failed, 2 the command line or
//! the config is wrong.

use std::process::ExitCode;

use clap::Parser;
use ssl_backdoor::{Cli, ConfigError};

fn main() -> ExitCode {
    // `ssl-backdoor poison --clean DIR | head` ends when `head` does, as any other command would.
    sigpipe::reset();
    let cli = Cli::parse();
    match ssl_backdoor::end_on_ctrl_c().and_then(|()| cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let wrong_config = error.chain().any(|cause| cause.is::<ConfigError>());
            ExitCode::from(if wrong_config { 2 } else { 1 })
        }
    }
}
