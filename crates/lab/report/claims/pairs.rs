//! The runs of a setting by pair of target and trigger.

use ssl_backdoor_probe::{bootstrap, student};

use super::claim::{SEED, with_interval};
use crate::record::{ProbeResult, RunScores};
use crate::report::group::Group;

/// The runs of one pair: one for each training seed.
pub(super) struct Pair<'a> {
    pub target: u32,
    trigger: &'a str,
    runs: Vec<(&'a RunScores, &'a ProbeResult)>,
}

impl Pair<'_> {
    /// The trigger in words.
    pub(super) fn trigger(&self) -> &str {
        self.trigger
    }

    /// The mean of a figure over the runs; none if a run lacks it.
    pub(super) fn mean(&self, of: impl Fn(&RunScores, &ProbeResult) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.runs.iter().map(|(run, read)| of(run, read)).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The mean net flow to every class; none if a run lacks it.
    pub(super) fn flow(&self) -> Option<Vec<f64>> {
        let classes = self.runs.first()?.1.flow.as_ref()?.net.len();
        (0..classes)
            .map(|class| self.mean(|_, read| read.flow.as_ref()?.net.get(class).copied()))
            .collect()
    }
}

/// The pairs of `group` in the order of their first runs.
pub(super) fn pairs<'a>(group: &Group<'a>) -> Vec<Pair<'a>> {
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for &(_, run, reading) in &group.runs {
        let Some(target) = run.target else { continue };
        let same = |pair: &&mut Pair<'a>| pair.target == target && pair.trigger == run.trigger;
        match pairs.iter_mut().find(same) {
            Some(pair) => pair.runs.push((run, reading)),
            None => {
                let runs = vec![(run, reading)];
                pairs.push(Pair { target, trigger: &run.trigger, runs });
            }
        }
    }
    pairs
}

/// The number of pairs; if they differ in their number of runs, it says so, because some runs may be missing.
pub(super) fn number(pairs: &[Pair<'_>]) -> String {
    let runs = || pairs.iter().map(|pair| pair.runs.len());
    match (runs().min(), runs().max()) {
        (Some(least), Some(most)) if least < most => {
            format!("{} (with {least} to {most} runs)", pairs.len())
        }
        _ => pairs.len().to_string(),
    }
}

/// A figure of each pair; none if there are fewer than two pairs or one lacks it.
pub(super) fn values(
    pairs: &[Pair<'_>],
    of: impl Fn(&RunScores, &ProbeResult) -> Option<f64>,
) -> Option<Vec<f64>> {
    let values: Option<Vec<f64>> = pairs.iter().map(|pair| pair.mean(&of)).collect();
    values.filter(|values| values.len() >= 2)
}

/// The mean with Student's 95 % interval, and the bootstrap's.
pub(super) fn mean_cells(values: &[f64]) -> [String; 2] {
    let mean = student(values).map(|(mean, low, high)| with_interval(mean, [low, high]));
    // In an order of their own: the interval must not depend on the order of the runs.
    let mut ordered = values.to_vec();
    ordered.sort_by(f64::total_cmp);
    let drawn = bootstrap(&ordered, SEED).map(|[low, high]| format!("[{low:.1}, {high:.1}]"));
    [mean, drawn].map(|cell| cell.unwrap_or_else(|| "-".into()))
}
