//! The models that several settings have in common, and their net ASR.

use std::collections::{BTreeMap, BTreeSet};

use super::group::Group;

/// Target, trigger and seed of a model.
pub(super) type Key<'a> = (u32, &'a str, u64);

/// The models that all `groups` have.
pub(super) fn keys<'a>(groups: &[&Group<'a>]) -> BTreeSet<Key<'a>> {
    let mut all = groups.iter().map(|group| net_asrs(group).into_keys().collect::<BTreeSet<_>>());
    let first = all.next().unwrap_or_default();
    all.fold(first, |shared, keys| &shared & &keys)
}

/// For each pair of target and trigger, the net ASR of each of the `groups`, in points: the mean over the training seeds
/// with which all groups have the pair. Pairs that a group lacks are left out.
pub(super) fn in_common(groups: &[&Group<'_>]) -> Vec<Vec<f64>> {
    let shared = keys(groups);
    let nets: Vec<BTreeMap<Key<'_>, f64>> = groups.iter().map(|group| net_asrs(group)).collect();
    let pairs: BTreeSet<(u32, &str)> = shared.iter().map(|key| (key.0, key.1)).collect();
    let mean = |pair: (u32, &str), nets: &BTreeMap<Key<'_>, f64>| {
        let seeds = shared.iter().filter(|key| (key.0, key.1) == pair);
        let values: Vec<f64> = seeds.filter_map(|key| nets.get(key).copied()).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    pairs.into_iter().map(|pair| nets.iter().map(|nets| mean(pair, nets)).collect()).collect()
}

fn net_asrs<'a>(group: &Group<'a>) -> BTreeMap<Key<'a>, f64> {
    let of = group.runs.iter().filter_map(|&(_, run, reading)| {
        Some(((run.target?, run.trigger.as_str(), run.seed), reading.net.net_asr?))
    });
    of.collect()
}
