//! How long the rest of a sweep takes, by the share of its work that was done so far.

use std::collections::BTreeMap;
use std::time::Duration;

/// Most that counts of a job whose trainings are done: features, probes and the report follow.
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
    /// Of so many jobs, nothing of which is done.
    pub fn of(jobs: usize) -> Self {
        Self { jobs, ..Self::default() }
    }

    /// The `trained` share of the trainings of `job`, 0 to 1.
    pub fn see(&mut self, job: usize, trained: f64) {
        let share = trained * TRAINED;
        self.before.entry(job).or_insert(share);
        self.now.insert(job, share);
    }

    /// `job` has ended, well or not.
    pub fn end(&mut self, job: usize) {
        self.before.entry(job).or_insert(0.0);
        self.now.insert(job, 1.0);
    }

    /// The time that the rest takes if it goes on as in the time `since` the start; none before anything was done.
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
        // Of a training that goes on from a checkpoint, only what is new counts: 1.19 units in 119 s, 2.335 are left.
        eta.see(1, 0.5);
        eta.see(1, 0.7);
        let left = eta.left(seconds(119)).unwrap().as_secs_f64();
        assert!((left - 233.5).abs() < 1e-6, "{left}");
        (0..4).for_each(|job| eta.end(job));
        assert_eq!(eta.left(seconds(119)), Some(seconds(0)));
    }
}
