//! Requests to stop: Ctrl-C, a signal of the system, and the end of the sweep that started this process. A training in
//! progress saves a checkpoint; all other work is cut off without leaving a partial file.

use std::io::{self, Read};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// This process was asked to stop.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a training has to finish its step and save.
const GRACE: Duration = Duration::from_millis(1500);

/// Environment variable of a process that a sweep starts: its standard input ends when the sweep does.
const SWEEP: &str = "SSL_BACKDOOR_SWEEP";

/// Makes Ctrl-C stop this process with status 1: a training after a checkpoint; other work, and a training with long
/// steps, after one and a half seconds; immediately on the second Ctrl-C. A process of a sweep stops in the same way when
/// the sweep ends, for any reason.
///
/// # Errors
/// The system refuses the handler.
pub fn end_on_ctrl_c() -> Result<()> {
    static ONCE: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if ONCE.swap(true, Ordering::Relaxed) {
            process::exit(1);
        }
        end();
    })
    .context("cannot listen for Ctrl-C")?;
    if std::env::var_os(SWEEP).is_some() {
        thread::spawn(|| {
            until_closed(io::stdin().lock());
            end();
        });
    }
    Ok(())
}

/// Asks this process to stop; further requests have no effect.
fn end() {
    if INTERRUPTED.swap(true, Ordering::Relaxed) {
        return;
    }
    thread::spawn(|| {
        thread::sleep(GRACE);
        eprintln!(
            "interrupted: finished stages and the last checkpoint are kept; run the same command again to resume"
        );
        process::exit(1);
    });
}

/// Reads to the end.
fn until_closed(mut input: impl Read) {
    let mut bytes = [0; 64];
    loop {
        match input.read(&mut bytes) {
            Ok(1..) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Makes a process started by `command` end together with this one. Keep its [`stdin`](process::Child::stdin) while it
/// should run: dropping it asks the process to stop.
pub(crate) fn end_with_this(command: &mut Command) -> &mut Command {
    command.env(SWEEP, "1").stdin(Stdio::piped())
}
