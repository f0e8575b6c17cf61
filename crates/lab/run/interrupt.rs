//! Requests to end: Ctrl-C, a signal of the system, and the end of the sweep that started this process. The training in
//! progress saves a checkpoint; whatever else is going on leaves nothing half-written and is cut.

use std::io::{self, Read};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Somebody asked this process to end.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a training has to finish its step and save.
const GRACE: Duration = Duration::from_millis(1500);

/// Environment variable of a process that a sweep starts: its standard input ends when the sweep does.
const SWEEP: &str = "SSL_BACKDOOR_SWEEP";

/// Makes Ctrl-C end this process with status 1: a training after a checkpoint, anything else, and a training whose
/// steps are long, after one and a half seconds; at once when it comes twice. A process that a sweep started ends in
/// the same way when the sweep is gone, however it ended.
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

/// Asks this process to end: once, whoever asks again.
fn end() {
    if INTERRUPTED.swap(true, Ordering::Relaxed) {
        return;
    }
    thread::spawn(|| {
        thread::sleep(GRACE);
        eprintln!(
            "interrupted: finished stages and the last checkpoint are kept; run the same again to go on"
        );
        process::exit(1);
    });
}

/// Reads until there is nothing more to come.
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

/// Makes a process that `command` starts end with this one. Its [`stdin`](process::Child::stdin) is to be held as long
/// as it may go on: dropping it asks the process to end.
pub(crate) fn end_with_this(command: &mut Command) -> &mut Command {
    command.env(SWEEP, "1").stdin(Stdio::piped())
}
