//! The dose: net ASR against one setting of the attack that varies while all others are the same.

use std::collections::BTreeSet;

use toml::Value;

use super::group::{Group, Victim, victim};
use super::in_common::{InCommon, in_common};
use crate::record::RunScores;

/// Fewest doses of a curve.
const FEWEST: usize = 3;

/// What varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dose {
    /// The share of the poisoned images whose trigger survives in exactly one view, by the place of the trigger.
    SingleView,
    /// The poisoned share of the target class.
    Rate,
}

/// The net ASR of a method at every dose.
pub(super) struct Curve<'a> {
    pub method: &'a str,
    /// The doses in percent, ascending.
    pub doses: Vec<f64>,
    /// For each pair, the net ASR at every dose, in points.
    pub pairs: Vec<Vec<f64>>,
    /// Anchor of the first of its runs.
    pub anchor: String,
}

impl Dose {
    pub(super) const ALL: [Self; 2] = [Self::SingleView, Self::Rate];

    /// The key of `[poison]` that sets it.
    fn key(self) -> &'static str {
        match self {
            Self::SingleView => "place",
            Self::Rate => "rate",
        }
    }

    /// The dose in words, as the label of an axis.
    pub(super) fn axis(self) -> &'static str {
        match self {
            Self::SingleView => "poisoned images with the trigger in exactly one view, %",
            Self::Rate => "poisoned share of the target class, %",
        }
    }

    /// The dose of a group, in percent: the rate, or the mean share over its runs, or over those of the models `of`.
    fn of(self, group: &Group<'_>, of: Option<&BTreeSet<Victim<'_>>>) -> Option<f64> {
        if self == Self::Rate {
            return group.setting.rate_of_class();
        }
        let counts = |run: &RunScores| of.is_none_or(|models| models.contains(&victim(run)));
        let runs = group.runs.iter().map(|&(_, run, _)| run).filter(|run| counts(run));
        let share = |run: &RunScores| run.trigger_size.as_ref()?.by_views.get(1).copied();
        let shares: Vec<f64> = runs.map(share).collect::<Option<_>>()?;
        let sum: f64 = shares.iter().sum();
        (!shares.is_empty()).then(|| 100.0 * sum / shares.len() as f64)
    }

    /// The curves of all methods of the `groups`, which are attacked by the same attack without a defence, on the pairs and
    /// seeds that all of them have; none without such pairs, or for methods with fewer than three doses.
    pub(super) fn curves<'a>(self, groups: &[&'a Group<'a>]) -> Vec<Curve<'a>> {
        let mut methods: Vec<&'a str> = Vec::new();
        for group in groups {
            if !methods.contains(&group.setting.method.as_str()) {
                methods.push(&group.setting.method);
            }
        }
        let chains = methods.iter().map(|method| (*method, self.chain(groups, method)));
        let chains: Vec<_> = chains.filter(|(_, chain)| chain.len() >= FEWEST).collect();
        let members: Vec<&Group<'a>> =
            chains.iter().flat_map(|(_, chain)| chain.iter().map(|(_, group)| *group)).collect();
        let InCommon { models, pairs } = in_common(&members);
        if pairs.is_empty() {
            return Vec::new();
        }
        let mut at = 0;
        let curve = |(method, chain): (&'a str, Vec<(f64, &'a Group<'a>)>)| {
            let dose = |(i, (dose, group)): (usize, &(f64, &Group<'a>))| {
                (self.of(group, Some(&models)).unwrap_or(*dose), at + i)
            };
            let mut columns: Vec<(f64, usize)> = chain.iter().enumerate().map(dose).collect();
            columns.sort_by(|a, b| a.0.total_cmp(&b.0));
            at += chain.len();
            let row = |row: &Vec<f64>| columns.iter().map(|(_, column)| row[*column]).collect();
            Curve {
                method,
                doses: columns.iter().map(|(dose, _)| *dose).collect(),
                pairs: pairs.iter().map(row).collect(),
                anchor: chain[0].1.anchor(),
            }
        };
        chains.into_iter().map(curve).collect()
    }

    /// The most groups of `method` that differ in this dose alone, each with its dose over all runs.
    fn chain<'a>(self, groups: &[&'a Group<'a>], method: &str) -> Vec<(f64, &'a Group<'a>)> {
        let mut chains: Vec<(Value, Vec<(f64, &Group<'a>)>)> = Vec::new();
        for group in groups.iter().copied().filter(|group| group.setting.method == method) {
            let Some(dose) = self.of(group, None) else { continue };
            let mut rest = group.setting.tree();
            if let Some(poison) = rest.get_mut("poison").and_then(Value::as_table_mut) {
                poison.remove(self.key());
            }
            match chains.iter_mut().find(|(other, _)| *other == rest) {
                Some((_, chain)) => chain.push((dose, group)),
                None => chains.push((rest, vec![(dose, group)])),
            }
        }
        let longest = chains.into_iter().rev().max_by_key(|(_, chain)| chain.len());
        longest.map(|(_, chain)| chain).unwrap_or_default()
    }
}
