//! Reports the progress of a training to other processes, once a second.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ssl_backdoor_ssl::StepReport;

use crate::record::TrainingProgress;

/// Interval between two reports.
const EVERY: Duration = Duration::from_secs(1);

/// The file of a training in progress. When dropped, it is removed if all steps are done, and remains otherwise.
pub(super) struct ProgressFile {
    folder: PathBuf,
    last: Option<TrainingProgress>,
    /// The steps that were done before this process, and when it started.
    since: (usize, Instant),
    written: Instant,
}

impl ProgressFile {
    /// The file of the model in `folder`; nothing is written yet.
    pub fn new(folder: &Path) -> Self {
        let now = Instant::now();
        Self { folder: folder.into(), last: None, since: (0, now), written: now }
    }

    /// Reports that `done` of `steps` steps were done before.
    pub fn start(&mut self, done: usize, steps: usize) {
        self.since = (done, Instant::now());
        self.tell(TrainingProgress { done, steps, per_second: 0.0 });
    }

    /// Reports a finished step, if the last report is at least [`EVERY`] old.
    pub fn step(&mut self, step: &StepReport) {
        let (before, since) = self.since;
        let seconds = since.elapsed().as_secs_f64();
        let per_second = (step.done - before.min(step.done)) as f64 / seconds.max(1e-9);
        let progress = TrainingProgress { done: step.done, steps: step.steps, per_second };
        if self.written.elapsed() > EVERY {
            self.tell(progress);
        } else {
            self.last = Some(progress);
        }
    }

    fn tell(&mut self, progress: TrainingProgress) {
        progress.write(&self.folder);
        self.written = Instant::now();
        self.last = Some(progress);
    }
}

impl Drop for ProgressFile {
    fn drop(&mut self) {
        match self.last {
            Some(TrainingProgress { done, steps, .. }) if done == steps => {
                TrainingProgress::remove(&self.folder);
            }
            Some(cut) => cut.write(&self.folder),
            None => {}
        }
    }
}
