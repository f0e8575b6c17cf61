//! The display of a running sweep: on a terminal a line for each training in progress and one for the whole sweep,
//! elsewhere a line for each job that has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, MultiProgress, ProgressBar, ProgressStyle};

use super::eta::Eta;
use super::job::SweepJob;
use crate::record::TrainingProgress;

/// A training: the id of its job and the name of its model.
type Key = (usize, String);

/// The terminal of a sweep.
pub(super) struct Board {
    start: Instant,
    bars: MultiProgress,
    whole: ProgressBar,
    seen: Mutex<Seen>,
}

/// The observed progress of the trainings.
struct Seen {
    eta: Eta,
    trainings: BTreeMap<Key, (TrainingProgress, ProgressBar)>,
    /// The share of each training that is done.
    shares: BTreeMap<Key, f64>,
    /// Jobs that have ended: progress files that a failed one left are ignored.
    ended: BTreeSet<usize>,
}

impl Board {
    /// A board for this many jobs.
    pub fn new(jobs: usize) -> Self {
        let bars = MultiProgress::new();
        let whole = bars.add(ProgressBar::new(jobs as u64));
        whole.set_style(style("{prefix:>32!} {wide_bar} {pos}/{len} done   {msg}"));
        whole.set_prefix("sweep");
        let seen = Seen {
            eta: Eta::of(jobs),
            trainings: BTreeMap::new(),
            shares: BTreeMap::new(),
            ended: BTreeSet::new(),
        };
        Self { start: Instant::now(), bars, whole, seen: Mutex::new(seen) }
    }

    /// Whether the bars are visible.
    pub fn is_shown() -> bool {
        stderr().is_terminal()
    }

    /// Reads and shows the progress of the trainings of the `running` jobs.
    pub fn look(&self, running: &[&SweepJob]) {
        let mut seen = self.seen();
        for job in running {
            if seen.ended.contains(&job.id) {
                continue;
            }
            let trainings = TrainingProgress::of_run(&job.folder);
            for (model, progress) in &trainings {
                self.show(&mut seen, job, model, *progress);
            }
            seen.finish(job.id, |model| trainings.iter().all(|(other, _)| other != model));
            let shares = seen.shares.range((job.id, String::new())..);
            let done: f64 = shares.take_while(|((id, _), _)| *id == job.id).map(|(_, s)| s).sum();
            if !trainings.is_empty() || done > 0.0 {
                seen.eta.see(job.id, (done / job.trainings as f64).min(1.0));
            }
        }
        let left = seen.eta.left(self.start.elapsed());
        self.whole.set_message(left.map_or(String::new(), eta));
    }

    /// Shows one training.
    fn show(&self, seen: &mut Seen, job: &SweepJob, model: &str, progress: TrainingProgress) {
        let key = (job.id, model.to_owned());
        let (last, bar) = seen.trainings.entry(key.clone()).or_insert_with(|| {
            let bar = self.bars.insert_before(&self.whole, ProgressBar::new(progress.steps as u64));
            bar.set_style(style("{prefix:>32!} {wide_bar} {pos}/{len} steps  {msg}"));
            // The name of a twin's job is a path: show its last part.
            let name = job.name.rsplit('/').next().unwrap_or_default();
            bar.set_prefix(format!("{name} {model}"));
            (progress, bar)
        });
        *last = progress;
        bar.set_position(progress.done as u64);
        let left = progress.seconds_left().and_then(|s| Duration::try_from_secs_f64(s).ok());
        bar.set_message(
            left.map_or(String::new(), |left| {
                format!("{:.1}/s  {}", progress.per_second, eta(left))
            }),
        );
        seen.shares.insert(key, progress.done as f64 / progress.steps.max(1) as f64);
    }

    /// Prints that `job` has ended and how; the line stays above the bars.
    pub fn ended(&self, job: &SweepJob, how: &str) {
        let mut seen = self.seen();
        seen.finish(job.id, |_| true);
        seen.eta.end(job.id);
        seen.ended.insert(job.id);
        self.whole.inc(1);
        let left = seen.eta.left(self.start.elapsed()).unwrap_or_default().as_secs_f64() / 60.0;
        let (ended, all) = (self.whole.position(), self.whole.length().unwrap_or_default());
        self.say(&format!("[{ended}/{all}] {}:{how}; about {left:.0} min left", job.name));
    }

    /// Prints a line without disturbing the bars.
    pub fn say(&self, line: &str) {
        self.bars.suspend(|| eprintln!("{line}"));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Removes the bars of the trainings of `job` that are `gone`.
    fn finish(&mut self, job: usize, gone: impl Fn(&str) -> bool) {
        for (key, (_, bar)) in
            self.trainings.extract_if(.., |(id, model), _| *id == job && gone(model))
        {
            bar.finish_and_clear();
            self.shares.insert(key, 1.0);
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.whole.finish_and_clear();
    }
}

fn eta(left: Duration) -> String {
    format!("ETA {}", FormattedDuration(left))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
