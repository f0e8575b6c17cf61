//! Parallel processes, each with its share of the cores. A failure is reported and the rest continues. Interrupting
//! the sweep stops all of them, and so does killing it: each watches a pipe that closes when the sweep ends.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::board::Board;
use super::job::SweepJob;
use crate::run::RunFolder;
use crate::run::{end_with_this, interrupted, pass_on};

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Failed,
    /// The job that it needs failed.
    Skipped,
}

#[derive(Default)]
struct State {
    /// Jobs that have begun, by index in the list of jobs.
    begun: Vec<usize>,
    /// Outcomes by job id.
    ended: BTreeMap<usize, Outcome>,
}

/// Lines of a failed job's log that are shown.
const TAIL: usize = 6;
/// Interval at which a process is polled.
const TICK: Duration = Duration::from_millis(50);
/// Interval at which a terminal shows the progress of the trainings.
const LOOK: Duration = Duration::from_millis(500);
/// How long a process of a killed sweep may take to leave its folder: it finishes its step and saves a checkpoint,
/// which takes seconds if many programs share the cores.
const LEFT: Duration = Duration::from_secs(30);

/// Runs all jobs, as many at a time as there are `slots`, each on the device of its slot (of its config, if the slot
/// names none); `done` is called after each that succeeded. Returns the outcomes by increasing job id.
pub(super) fn work(
    jobs: &[SweepJob],
    slots: &[Option<String>],
    done: impl Fn(&SweepJob) -> Result<()> + Sync,
) -> Result<Vec<Outcome>> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = (cores / slots.len()).max(1);
    let (state, changed) = (Mutex::new(State::default()), Condvar::new());
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let board = Board::new(jobs.len());
    let look = || board.look(&running(jobs, &lock()));
    let worker = |device: Option<&str>| {
        while let Some(job) = next(jobs, lock(), &changed) {
            let skipped = job.needs.is_some_and(|id| lock().ended.get(&id) != Some(&Outcome::Done));
            let now = Instant::now();
            let outcome = if skipped {
                Outcome::Skipped
            } else {
                match run(&program, job, threads, device).and_then(|()| done(job)) {
                    Ok(()) => Outcome::Done,
                    Err(error) => {
                        if !interrupted() {
                            board.say(&format!("{}: FAILED: {error:#}", job.name));
                        }
                        Outcome::Failed
                    }
                }
            };
            lock().ended.insert(job.id, outcome);
            look();
            let how = if outcome == Outcome::Skipped { " skipped, its twin failed" } else { "" };
            board.ended(job, &format!("{how} {:.0} s", now.elapsed().as_secs_f64()));
            changed.notify_all();
        }
    };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        if Board::is_shown() {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    look();
                    thread::sleep(LOOK);
                }
            });
        }
        thread::scope(|scope| {
            for device in slots {
                scope.spawn(|| worker(device.as_deref()));
            }
        });
        ended.store(true, Ordering::Relaxed);
    });
    anyhow::ensure!(!interrupted(), "interrupted: run the same command again to resume");
    Ok(lock().ended.values().copied().collect())
}

/// The jobs that have begun and not ended.
fn running<'a>(jobs: &'a [SweepJob], state: &State) -> Vec<&'a SweepJob> {
    let begun = state.begun.iter().map(|&place| &jobs[place]);
    begun.filter(|job| !state.ended.contains_key(&job.id)).collect()
}

/// The next job that can begin; waits while others must end first. None when all have begun or the sweep must end.
fn next<'a>(
    jobs: &'a [SweepJob],
    mut state: MutexGuard<'_, State>,
    changed: &Condvar,
) -> Option<&'a SweepJob> {
    while !interrupted() {
        let waits = |job: &SweepJob| job.needs.is_some_and(|id| !state.ended.contains_key(&id));
        let free = |i: &usize| !state.begun.contains(i);
        let place = (0..jobs.len()).filter(free).find(|&i| !waits(&jobs[i]));
        if let Some(place) = place {
            state.begun.push(place);
            return Some(&jobs[place]);
        }
        if state.begun.len() == jobs.len() {
            return None;
        }
        state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    None
}

/// Runs one process to its end; its output goes to its log.
fn run(program: &Path, job: &SweepJob, threads: usize, device: Option<&str>) -> Result<()> {
    until_left(&job.folder);
    // Only now: until its run begins, the folder keeps what an earlier sweep left there.
    job.prepare()?;
    let path = job.folder.join("log.txt");
    let open = || OpenOptions::new().create(true).append(true).open(&path);
    let log = || open().with_context(|| format!("cannot write {}", path.display()));
    let mut command = Command::new(program);
    command
        .args(job.arguments())
        .args(["--set", &format!("workers={threads}")])
        .args(device.iter().flat_map(|device| ["--set".to_owned(), format!("device={device}")]))
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stdout(log()?)
        .stderr(log()?);
    let child = start(end_with_this(&mut command));
    let mut child = child.with_context(|| format!("cannot start {}", program.display()))?;
    let status = wait(&mut child)?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n    ");
    anyhow::bail!("{status}; the end of {}:\n    {tail}", path.display())
}

/// Waits until no process of an earlier sweep uses `folder`, at most for [`LEFT`]; then the new process reports it.
fn until_left(folder: &Path) {
    let since = Instant::now();
    while RunFolder::open(folder).is_err() && since.elapsed() < LEFT && !interrupted() {
        thread::sleep(TICK);
    }
}

/// Starts one process at a time. If the system cannot open a non-inheritable pipe in one step, a process started in
/// between would hold the pipe of another one open.
fn start(command: &mut Command) -> io::Result<Child> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Waits for `child`; after the sweep is asked to end, only for the time that [`pass_on`] returns.
fn wait(child: &mut Child) -> Result<ExitStatus> {
    let mut asked = None;
    let mut pipe = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a process")? {
            return Ok(status);
        }
        if interrupted() {
            let (since, grace) = *asked.get_or_insert_with(|| (Instant::now(), pass_on(&mut pipe)));
            if since.elapsed() > grace {
                // Only the steps since its last checkpoint are lost.
                child.kill().context("cannot end a process")?;
            }
        }
        thread::sleep(TICK);
    }
}
