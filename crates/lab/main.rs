//! The command line of `ssl-backdoor`. Exit status: 0 done, 1 the run failed, 2 the command line or the config is
//! wrong, 3 `scan data` suspects more images than `--fail-above` allows, 75 a scheduler needed the machine and the
//! same command resumes the work.

use std::process::ExitCode;

use clap::Parser;
use ssl_backdoor::{Cli, ConfigError, Suspected, TRY_AGAIN};

fn main() -> ExitCode {
    // `ssl-backdoor poison --clean DIR | head` ends when `head` does, like any other command.
    sigpipe::reset();
    if let Err(error) = ssl_backdoor::device::load_on_cpu() {
        eprintln!("warning: {error}");
    }
    let cli = Cli::parse();
    if let Err(error) = ssl_backdoor_kernels::check_instruction_path() {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    match ssl_backdoor::end_when_asked().and_then(|()| cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let is = |of: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(of);
            ExitCode::from(match () {
                () if is(|cause| cause.is::<ConfigError>()) => 2,
                () if is(|cause| cause.is::<Suspected>()) => 3,
                () if ssl_backdoor::preempted() => TRY_AGAIN,
                () => 1,
            })
        }
    }
}
