//! Ctrl-C, and a request of the system to end: the training in progress saves a checkpoint; whatever else is going on
//! leaves nothing half-written and is cut.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Somebody asked this process to end.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a training has to finish its step and save.
const GRACE: Duration = Duration::from_millis(1500);

/// Makes Ctrl-C end this process with status 1: a training after a checkpoint, anything else, and a training whose
/// steps are long, after one and a half seconds; at once when it comes twice.
///
/// # Errors
/// The system refuses the handler.
pub fn end_on_ctrl_c() -> Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            process::exit(1);
        }
        thread::spawn(|| {
            thread::sleep(GRACE);
            eprintln!("interrupted: finished stages and the last checkpoint are kept; run the same again to go on");
            process::exit(1);
        });
    })
    .context("cannot listen for Ctrl-C")
}
