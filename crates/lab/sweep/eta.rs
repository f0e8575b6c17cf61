//! The remaining time of a sweep, estimated from the share of its work that is done.

use std::collections::BTreeMap;
use std::time::Duration;

/// Share of a job that is done when its trainings are: features, probes and the report follow.
const TRAINED: f64 = 0.95;

/// How much of each job is done. A job is one unit of work, and its trainings share it equally.
#[derive(Debug, Default)]
pub(super) struct Eta {
    jobs: usize,
    /// The share of each job that was done when this sweep first saw it: an earlier sweep did it.
    before: BTreeMap<usize, f64>,
    now: BTreeMap<usize, f64>,
}

impl Eta {
    /// For this many jobs, of which nothing is done.
    pub fn of(jobs: usize) -> Self {
        Self { jobs, ..Self::default() }
    }

    /// Records that the share `trained` of the trainings of `job` is done, 0 to 1.
    pub fn see(&mut self, job: usize, trained: f64) {
        let share = trained * TRAINED;
        self.before.entry(job).or_insert(share);
        self.now.insert(job, share);
    }

    /// Records that `job` has ended, successfully or not.
    pub fn end(&mut self, job: usize) {
        self.before.entry(job).or_insert(0.0);
        self.now.insert(job, 1.0);
    }

    /// The remaining time at the average rate in the time `since` the start; none before anything was done.
    pub fn left(&self, since: Duration) -> Option<Duration> {
        let sum = |shares: &BTreeMap<usize, f64>| shares.values().sum::<f64>();
        let done = sum(&self.now) - sum(&self.before);
        let left = self.jobs as f64 - sum(&self.now);
        Duration::try_from_secs_f64(since.as_secs_f64() * left.max(0.0) / done).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_goes_on_as_before() {
        let seconds = Duration::from_secs;
        let mut eta = Eta::of(4);
        assert_eq!(eta.left(seconds(10)), None);
        eta.end(0);
        assert_eq!(eta.left(seconds(10)), Some(seconds(30)));
        // For a training resumed from a checkpoint, only the new work counts: 1.19 units in 119 s, 2.335 are left.
        eta.see(1, 0.5);
        eta.see(1, 0.7);
        let left = eta.left(seconds(119)).unwrap().as_secs_f64();
        assert!((left - 233.5).abs() < 1e-6, "{left}");
        (0..4).for_each(|job| eta.end(job));
        assert_eq!(eta.left(seconds(119)), Some(seconds(0)));
    }
}
