//! The models that several settings have in common, and their net ASR.

use std::collections::{BTreeMap, BTreeSet};

use super::group::{Group, Victim};

/// What several groups have in common.
pub(super) struct InCommon<'a> {
    /// The models that all groups have.
    pub models: BTreeSet<Victim<'a>>,
    /// For each pair of target and trigger, the net ASR of each group, in points: the mean over the training seeds with
    /// which all groups have the pair. Pairs that a group lacks are left out.
    pub pairs: Vec<Vec<f64>>,
}

/// The models and the pairs that all `groups` have.
pub(super) fn in_common<'a>(groups: &[&Group<'a>]) -> InCommon<'a> {
    let nets: Vec<BTreeMap<Victim<'a>, f64>> =
        groups.iter().map(|group| group.net_asrs()).collect();
    let mut all = nets.iter().map(|nets| nets.keys().copied().collect::<BTreeSet<_>>());
    let first = all.next().unwrap_or_default();
    let models = all.fold(first, |shared, models| &shared & &models);
    let pair = |&(_, target, trigger): &Victim<'a>| (target, trigger);
    let pairs: BTreeSet<(Option<u32>, &str)> = models.iter().map(pair).collect();
    let mean = |of: (Option<u32>, &str), nets: &BTreeMap<Victim<'a>, f64>| {
        let seeds = models.iter().filter(|model| pair(model) == of);
        let values: Vec<f64> = seeds.filter_map(|model| nets.get(model).copied()).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let row = |of| nets.iter().map(|nets| mean(of, nets)).collect();
    let pairs = pairs.into_iter().map(row).collect();
    InCommon { models, pairs }
}
