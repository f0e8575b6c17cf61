//! Requests to stop: Ctrl-C, a signal from the system or a scheduler, and the end of the sweep that started this
//! process. A training in progress saves a checkpoint; all other work is cut off without leaving a partial file.

use std::io::{self, Read, Write};
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

/// Whether this process was asked to stop.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Whether the first request came from a scheduler that needs the machine for other work.
static PREEMPTED: AtomicBool = AtomicBool::new(false);

/// Exit status of a process that ended because a scheduler asked for the machine: the same command resumes its work.
/// It is `EX_TEMPFAIL` of `sysexits.h`.
pub const TRY_AGAIN: u8 = 75;

/// Environment variable of a process that a sweep starts: its standard input closes when the sweep ends.
const SWEEP: &str = "SSL_BACKDOOR_SWEEP";
/// Environment variable of a process in a Slurm job.
const SLURM_JOB: &str = "SLURM_JOB_ID";
/// Environment variable with the seconds that a process has when a scheduler needs the machine.
pub(crate) const GRACE: &str = "SSL_BACKDOOR_GRACE";
/// The default of [`GRACE`].
const USUAL_GRACE: u32 = 90;

/// Why a process stops: this decides how long it may take, and its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// A person asked.
    Stop,
    /// A scheduler needs the machine back and gives some time.
    MakeRoom,
}

impl Request {
    /// How long a training has to finish its step and save, and another stage to finish.
    fn grace(self) -> Duration {
        match self {
            Self::Stop => Duration::from_millis(1500),
            Self::MakeRoom => Duration::from_secs(given_grace().unwrap_or(USUAL_GRACE).into()),
        }
    }
}

/// The seconds of [`GRACE`].
///
/// # Errors
/// It has a value that is not a whole number.
fn given_grace() -> Result<u32> {
    match std::env::var(GRACE) {
        Err(_) => Ok(USUAL_GRACE),
        Ok(text) => {
            text.parse().map_err(|_| anyhow!("{GRACE}={text}: expected a whole number of seconds"))
        }
    }
}

/// Stops this process on request:
///
/// - Ctrl-C, SIGTERM and SIGHUP end it with status 1. A training ends after a checkpoint; other work, and a training
///   with long steps, ends after one and a half seconds. A second such signal ends it at once.
/// - SIGUSR1, SIGUSR2, and in a Slurm job SIGTERM, mean that a scheduler needs the machine. A training finishes its
///   step and saves a checkpoint, another stage finishes, and the status is [`TRY_AGAIN`]. Work is cut off after 90
///   seconds, or as many as `SSL_BACKDOOR_GRACE` says.
///
/// A process that a sweep started ends in the same way when the sweep ends, for any reason.
///
/// # Errors
/// The system refuses the handlers, or `SSL_BACKDOOR_GRACE` is not a whole number.
pub fn end_when_asked() -> Result<()> {
    given_grace()?;
    listen().context("cannot listen for signals")?;
    if std::env::var_os(SWEEP).is_some() {
        thread::spawn(|| {
            until_closed(io::stdin().lock());
            end(Request::Stop);
        });
    }
    Ok(())
}

#[cfg(unix)]
fn listen() -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
    let scheduled = std::env::var_os(SLURM_JOB).is_some();
    thread::spawn(move || {
        for signal in signals.forever() {
            signalled(match signal {
                SIGUSR1 | SIGUSR2 => Request::MakeRoom,
                SIGTERM if scheduled => Request::MakeRoom,
                _ => Request::Stop,
            });
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn listen() -> io::Result<()> {
    ctrlc::set_handler(|| signalled(Request::Stop)).map_err(io::Error::other)
}

/// Handles a signal. A second request by a person stops the process immediately.
fn signalled(request: Request) {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if request == Request::Stop && ONCE.swap(true, Ordering::Relaxed) {
        process::exit(1);
    }
    end(request);
}

/// Asks this process to stop. A later request counts if it leaves less time.
fn end(request: Request) {
    if INTERRUPTED.load(Ordering::Relaxed) && request == Request::MakeRoom {
        return;
    }
    if request == Request::MakeRoom {
        PREEMPTED.store(true, Ordering::Relaxed);
    }
    INTERRUPTED.store(true, Ordering::Relaxed);
    thread::spawn(move || {
        thread::sleep(request.grace());
        eprintln!("{KEPT}");
        process::exit(if preempted() { TRY_AGAIN.into() } else { 1 });
    });
}

const KEPT: &str = "interrupted. `run` and `sweep` keep what is finished and the last checkpoint, `scan nulls` the finished \
                    scores: the same command resumes them. Other commands start from the beginning";

/// Whether this process was asked to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Whether a scheduler asked this process to stop. The same command may then be run again, whatever fails afterwards.
pub fn preempted() -> bool {
    PREEMPTED.load(Ordering::Relaxed)
}

/// Checks that this process was not asked to stop, before long work.
///
/// # Errors
/// It was.
pub(crate) fn go_on() -> Result<()> {
    ensure!(!interrupted(), "{KEPT}");
    Ok(())
}

/// Reads until the input closes; a byte means that a scheduler needs the machine.
fn until_closed(mut input: impl Read) {
    let mut bytes = [0; 64];
    loop {
        match input.read(&mut bytes) {
            Ok(1..) => end(Request::MakeRoom),
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

/// Asks a process that was started with [`end_with_this`] to end, in the way that this one was asked. Returns how
/// long it may take: a little less than this process has itself.
pub(crate) fn pass_on(pipe: &mut Option<ChildStdin>) -> Duration {
    if !preempted() {
        // Closing the pipe asks the process to end.
        drop(pipe.take());
        return Request::Stop.grace().mul_f64(0.8);
    }
    // The write may fail, because the process has already ended.
    let _ = pipe.as_mut().map(|pipe| pipe.write_all(b"\n").and_then(|()| pipe.flush()));
    Request::MakeRoom.grace().mul_f64(0.95)
}
