//! Runs with the same settings except for target, trigger and seed: one row of the paper's table.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use ssl_backdoor_defend::ModelId;

use super::destinations::{Effect, elsewhere};
use super::learned::weak;
use super::mean::{Mean, Verdict};
use super::setting::Setting;
use crate::config::Experiment;
use crate::record::{BACKDOORED, CLEAN, Images, ProbeId, ProbeResult, RunScores, UNTRAINED};

/// Runs of one setting, scored by one kind of probe.
pub(super) struct Group<'a> {
    pub setting: Setting,
    /// The runs with their indices among all runs, and their probe results.
    pub runs: Vec<(usize, &'a RunScores, &'a ProbeResult)>,
}

/// The anchor of a run in the list of all runs, by its index.
pub(super) fn anchor(place: usize) -> String {
    format!("run-{place}")
}

impl<'a> Group<'a> {
    /// The groups of all headline results, or with `others` of all other results, in the order of their first run.
    /// `configs` are the [`common`](super::setting::common) configs of the runs.
    pub(super) fn all(
        runs: &'a [RunScores],
        configs: &[Option<Experiment>],
        others: bool,
    ) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (place, run) in runs.iter().enumerate() {
            // The first of several seeds of a probe stands for all.
            let mut seen: Vec<(&ProbeId, f64)> = Vec::new();
            for (i, reading) in run.probes.iter().enumerate() {
                let new = !seen.contains(&(&reading.probe, reading.labels));
                seen.push((&reading.probe, reading.labels));
                if new && (i > 0) == others {
                    let config = configs.get(place).and_then(Option::as_ref);
                    let setting = Setting::of(run, reading, config);
                    match groups.iter_mut().find(|group| group.setting.same(&setting)) {
                        Some(group) => group.runs.push((place, run, reading)),
                        None => groups.push(Self { setting, runs: vec![(place, run, reading)] }),
                    }
                }
            }
        }
        groups
    }

    /// The mean of a figure over the runs that have it. Runs with the same `key` share the measured model and count
    /// once, so that the figure does not seem to have been measured several times.
    fn mean<K: PartialEq>(
        &self,
        key: impl Fn(usize, &'a RunScores) -> K,
        of: impl Fn(&ProbeResult) -> Option<f64>,
    ) -> Option<Mean> {
        let (mut seen, mut values) = (Vec::new(), Vec::new());
        for &(place, run, reading) in &self.runs {
            let key = key(place, run);
            if !seen.contains(&key) {
                values.extend(of(reading));
                seen.push(key);
            }
        }
        Mean::of(&values)
    }

    /// The mean of a figure of the backdoored models; one with several defences counts once.
    fn over_victims(&self, of: impl Fn(&ProbeResult) -> Option<f64>) -> Option<Mean> {
        self.mean(|_, run| victim(run), of)
    }

    /// The anchor of the group's first run in the list of all runs.
    pub(super) fn anchor(&self) -> String {
        self.runs.first().map_or(String::new(), |&(place, ..)| anchor(place))
    }

    /// The number of backdoored models for which `of` holds.
    fn victims_with(&self, of: impl Fn(&RunScores) -> bool) -> usize {
        let runs = self.runs.iter().map(|&(_, run, _)| run);
        runs.filter(|run| of(run)).map(victim).collect::<BTreeSet<_>>().len()
    }

    /// The number of backdoored models.
    pub(super) fn victims(&self) -> usize {
        self.victims_with(|_| true)
    }

    /// The number of under-trained backdoored models.
    pub(super) fn under_trained(&self) -> usize {
        self.victims_with(weak)
    }

    /// How often `model` was trained: once per victim, or once per run for a defended model. The unit of its figures is
    /// the victim all the same.
    pub(super) fn measured(&self, model: &str) -> usize {
        if ModelId::from(model).role().is_basic() { self.victims() } else { self.runs.len() }
    }

    /// Accuracy, FP and ASR of `model` on `images`, means over the runs.
    pub(super) fn cell(&self, model: &str, images: Images) -> [Option<Mean>; 3] {
        let scores = |r: &ProbeResult| -> Option<_> { r.models.get(model)?.get(&images).copied() };
        let acc = |r: &ProbeResult| scores(r).map(|s| s.acc);
        let fp = |r: &ProbeResult| scores(r)?.fp.map(|fp| fp as f64);
        let asr = |r: &ProbeResult| scores(r)?.asr;
        match (model, images) {
            // On clean images, the accuracy is the only figure of a clean twin that does not depend on the target.
            (UNTRAINED | CLEAN, Images::Clean) => {
                [self.mean(|_, run| run.seed, acc), self.over_victims(fp), self.over_victims(asr)]
            }
            (UNTRAINED | CLEAN | BACKDOORED, _) => {
                [self.over_victims(acc), self.over_victims(fp), self.over_victims(asr)]
            }
            // Several defences of one victim are one figure, their mean.
            _ => [&acc as &dyn Fn(&ProbeResult) -> Option<f64>, &fp, &asr].map(|of| {
                let found =
                    self.runs.iter().filter_map(|(_, run, read)| Some((victim(run), of(read)?)));
                Mean::of_units(found)
            }),
        }
    }

    /// The net ASR of each backdoored model; none without a target.
    pub(super) fn net_asrs(&self) -> BTreeMap<Victim<'a>, f64> {
        self.by_victim(|_, reading| reading.net.net_asr)
    }

    /// A figure of each backdoored model.
    fn by_victim(
        &self,
        of: impl Fn(&RunScores, &ProbeResult) -> Option<f64>,
    ) -> BTreeMap<Victim<'a>, f64> {
        let runs = self.runs.iter();
        runs.filter_map(|&(_, run, reading)| Some((victim(run), of(run, reading)?))).collect()
    }

    /// The mean of a figure over the pairs of target and trigger, each the mean of its training seeds, as in the claims;
    /// over the seeds of a single pair.
    pub(super) fn over_pairs(
        &self,
        of: impl Fn(&RunScores, &ProbeResult) -> Option<f64>,
    ) -> Option<Mean> {
        let values = self.by_victim(of);
        let by_pair =
            values.iter().map(|(&(_, target, trigger), &value)| ((target, trigger), value));
        // A single pair has no interval.
        let over_pairs = Mean::of_units(by_pair).filter(|mean| mean.interval.is_some());
        over_pairs.or_else(|| Mean::of(&values.into_values().collect::<Vec<_>>()))
    }

    /// Net ASR over the pairs. None without a target, where the drop is used instead.
    pub(super) fn net(&self) -> Option<Mean> {
        self.over_pairs(|_, reading| reading.net.net_asr)
    }

    /// The largest net flow to another class than the target, in points, over the pairs.
    pub(super) fn elsewhere(&self) -> Option<Mean> {
        self.over_pairs(|run, reading| elsewhere(reading.flow.as_ref()?, run.target?))
    }

    /// Percent of the positive pairs of views in which the trigger survives in exactly one view, over the pairs.
    pub(super) fn in_one_view(&self) -> Option<Mean> {
        self.over_pairs(|run, _| Some(100.0 * run.trigger_size.as_ref()?.in_one_of_pair()?))
    }

    /// Accuracy on patched images that the poison costs: the twin's minus the backdoored model's. A large drop with a
    /// small net ASR means that the trigger takes the model over but sends images to other classes than the target.
    pub(super) fn drop(&self) -> Option<Mean> {
        self.over_victims(|r| Some(r.net.patched_drop))
    }

    /// The number of backdoored models with each effect, in words; `-` if the scores do not contain it.
    pub(super) fn effects(&self) -> String {
        let mut seen = BTreeSet::new();
        counted(self.runs.iter().filter_map(|&(_, run, reading)| {
            let flow = reading.flow.as_ref().filter(|_| seen.insert(victim(run)))?;
            Some(Effect::of(flow, run.target, reading.net.patched_drop))
        }))
    }

    /// The verdict on the net ASR by the rule; none without a target.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.net().map(Verdict::of)
    }

    /// The defended models of the first run.
    pub(super) fn defended(&self) -> Vec<&'a ModelId> {
        let Some((_, _, reading)) = self.runs.first() else { return Vec::new() };
        let models = reading.models.keys();
        let mut models: Vec<&ModelId> = models.filter(|model| !model.role().is_basic()).collect();
        // By series, then by decreasing share.
        models.sort_by(|a, b| by_series(a, b));
        models
    }

    /// All models of its scores: the untrained encoder, the clean twin, the backdoored model, then the defended ones.
    pub(super) fn models(&self) -> Vec<&'a str> {
        let defended = self.defended().into_iter().map(ModelId::as_str);
        [UNTRAINED, CLEAN, BACKDOORED].into_iter().chain(defended).collect()
    }

    /// (ASR on patched, accuracy on clean images) of `model`.
    pub(super) fn acc_against_asr(&self, model: &str) -> Option<(f64, f64)> {
        let [acc, ..] = self.cell(model, Images::Clean);
        let [.., asr] = self.cell(model, Images::Patched);
        Some((asr?.value, acc?.value))
    }
}

/// The rows of the main table: what each shows of its setting, and the setting.
pub(super) fn rows<'a>(groups: &'a [Group<'_>]) -> Vec<(String, &'a Setting)> {
    groups.iter().map(|group| (group.setting.row(), &group.setting)).collect()
}

/// Orders models by series, then by decreasing share.
pub(super) fn by_series(a: &ModelId, b: &ModelId) -> Ordering {
    let (a, b) = (a.series(), b.series());
    a.0.cmp(b.0).then(b.1.total_cmp(&a.1))
}

/// The count of each effect, in words, the most frequent first; `-` without effects.
pub(super) fn counted(effects: impl Iterator<Item = Effect>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in effects.map(Effect::word) {
        match counts.iter_mut().find(|(other, _)| *other == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    if words.is_empty() { "-".into() } else { words.join(", ") }
}

/// A backdoored model within a setting: seed, target and trigger.
pub(super) type Victim<'a> = (u64, Option<u32>, &'a str);

/// The backdoored model of a run.
pub(super) fn victim(run: &RunScores) -> Victim<'_> {
    (run.seed, run.target, &run.trigger)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_runs_share_counts_once() {
        let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
        let run = RunScores::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(kept)).unwrap();
        let like = |seed, target| RunScores { seed, target: Some(target), ..run.clone() };
        let group = |runs: &[RunScores]| {
            let groups = Group::all(runs, &[], false);
            let [group] = groups.as_slice() else { panic!("{} groups", groups.len()) };
            let points = |mean: Option<Mean>| mean.is_some_and(|mean| mean.interval.is_some());
            let twin = group.cell(CLEAN, Images::Clean)[0];
            (group.runs.len(), group.victims(), points(group.net()), points(twin))
        };
        // Three defences of one victim; two attacks with one clean twin; two trainings of each.
        assert_eq!(group(&[like(11, 5), like(11, 5), like(11, 5)]), (3, 1, false, false));
        assert_eq!(group(&[like(11, 5), like(11, 6)]), (2, 2, true, false));
        assert_eq!(group(&[like(11, 5), like(12, 5)]), (2, 2, true, true));
        // Two pairs with two seeds each: the interval of the net ASR is over the pairs.
        let with = |seed, target, net| {
            let mut run = like(seed, target);
            run.probes.iter_mut().for_each(|probe| probe.net.net_asr = Some(net));
            run
        };
        let runs = [with(11, 5, 0.0), with(12, 5, 8.0), with(11, 6, 3.0), with(12, 6, 7.0)];
        let groups = Group::all(&runs, &[], false);
        let net = groups[0].net().unwrap();
        // Means 4 and 5: Student's 12.706 times 0.5.
        let [low, high] = net.interval.unwrap();
        assert!((net.value - 4.5).abs() < 1e-9, "{net:?}");
        assert!((low + 1.853).abs() < 1e-3 && (high - 10.853).abs() < 1e-3, "{net:?}");
    }

    #[test]
    fn without_a_target_there_is_a_drop_and_no_net_asr() {
        let kept = "results/fashion-mnist/ablations/byol_untargeted/scores.json";
        let run = RunScores::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(kept)).unwrap();
        let runs = [run];
        let groups = Group::all(&runs, &[], false);
        let [group] = groups.as_slice() else { panic!("{} groups", groups.len()) };
        assert_eq!((group.net(), group.verdict()), (None, None));
        assert!(group.drop().is_some_and(|drop| drop.value > 40.0));
    }
}
