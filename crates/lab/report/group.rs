//! Runs of the same settings but for target, trigger, seed: what a row of the paper's table stands for.

use std::collections::BTreeSet;

use ssl_backdoor_compress::DefendConfig;
use ssl_backdoor_probe::{ProbeConfig, student};
use ssl_backdoor_trigger::TriggerConfig;

use crate::config::Experiment;
use crate::scores::{BACKDOORED, CLEAN, PATCHED, Reading, RunScores, UNTRAINED};

/// The models that every run has; what else it has are defended ones.
const BASIC: [&str; 3] = [UNTRAINED, CLEAN, BACKDOORED];

/// What the runs of a group share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    pub data: String,
    pub method: String,
    pub eval: String,
    pub train_images: usize,
    pub steps: usize,
    /// Share of the target class that is poisoned, of the set if there is no target, in thousandths.
    rate: u32,
    pub targeted: bool,
    /// Share of the set that is poisoned; for runs of one rate it may differ by a rounding.
    dataset_rate: f64,
    /// Width of the trigger as the config has it.
    width: String,
    /// `linear` and so on, and the share of labels.
    pub probe: String,
    pub labels: f64,
    /// The rest of the config, where it lies beside the scores: without what the runs of a group may differ in, and
    /// without the probe, which the readings stand for.
    config: Option<Experiment>,
}

/// What runs of one setting have in common: no name, target, seeds, and of the paper's triggers the width alone.
pub(super) fn common(config: Experiment) -> Experiment {
    let mut poison = config.poison;
    poison.target = None;
    if let TriggerConfig::Htba { width, .. } | TriggerConfig::Seeded { width, .. } = poison.trigger
    {
        poison.trigger = TriggerConfig::Solid { color: [0; 3], width };
    }
    let probe = ProbeConfig::default();
    let mut defend = config.defend;
    if let Some(DefendConfig::Compress(compress)) = &mut defend {
        compress.seed = None;
    }
    Experiment { name: String::new(), seed: 0, workers: 1, poison, probe, defend, ..config }
}

impl Setting {
    fn of(run: &RunScores, reading: &Reading, config: Option<&Experiment>) -> Self {
        let rate = run.poison.rate.unwrap_or(run.poison.dataset_rate);
        Self {
            data: run.data.clone(),
            method: run.method.clone(),
            eval: format!("{:?}", run.eval).to_lowercase(),
            train_images: run.train_images,
            steps: run.steps,
            rate: (1000.0 * rate).round() as u32,
            targeted: run.target.is_some(),
            dataset_rate: run.poison.dataset_rate,
            width: run.trigger.rsplit(", ").next().unwrap_or_default().to_owned(),
            probe: reading.probe.clone(),
            labels: reading.labels,
            config: config.cloned(),
        }
    }

    /// The share that was poisoned, in words.
    pub(super) fn poison(&self) -> String {
        let rate = f64::from(self.rate) / 10.0;
        if self.targeted {
            let set = 100.0 * self.dataset_rate;
            format!("{rate:.1} % of the class ({set:.2} % of the set), {}", self.width)
        } else {
            format!("{rate:.2} % of the set, untargeted, {}", self.width)
        }
    }

    /// What a chart's label is made from, beside the method.
    pub(super) fn parts(&self) -> [String; 8] {
        let Self { data, width, steps, probe, labels, .. } = self;
        let pretrain = self.config.as_ref().map(|config| &config.pretrain);
        let rate = f64::from(self.rate) / 10.0;
        let of = if self.targeted { "" } else { " of the set" };
        [
            data.clone(),
            format!("{rate} %{of}"),
            width.clone(),
            format!("{steps} steps"),
            probe.clone(),
            format!("{} % labels", 100.0 * labels),
            pretrain.map_or(String::new(), |p| format!("batch {}", p.batch)),
            pretrain.map_or(String::new(), |p| format!("crops {} to {}", p.crop.0, p.crop.1)),
        ]
    }

    fn same(&self, other: &Self) -> bool {
        Self { dataset_rate: 0.0, ..self.clone() } == Self { dataset_rate: 0.0, ..other.clone() }
    }
}

/// A mean over runs with Student's 95 % interval; none for one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mean {
    pub value: f64,
    pub interval: Option<[f64; 2]>,
}

impl Mean {
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        if let Some((value, low, high)) = student(values) {
            return Some(Self { value, interval: Some([low, high]) });
        }
        values.first().map(|&value| Self { value, interval: None })
    }
}

/// `12.3 ± 4.5`, or the value alone.
impl std::fmt::Display for Mean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1}", self.value)?;
        match self.interval {
            Some([low, high]) => write!(f, " ± {:.1}", (high - low) / 2.0),
            None => Ok(()),
        }
    }
}

/// What the interval of the net ASR says, by a rule that was fixed before any run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The lower end is above 0.
    Falls,
    /// The upper end is below 2 points.
    Resists,
    Undecided,
}

/// Upper end of the net ASR, in points, below which a method resists.
pub(super) const RESISTS_BELOW: f64 = 2.0;

impl Verdict {
    fn of(net: Mean) -> Self {
        match net.interval {
            Some([low, _]) if low > 0.0 => Self::Falls,
            Some([_, high]) if high < RESISTS_BELOW => Self::Resists,
            _ => Self::Undecided,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Falls => "falls",
            Self::Resists => "resists",
            Self::Undecided => "undecided",
        }
    }
}

/// Runs of one setting, read one way.
pub(super) struct Group<'a> {
    pub setting: Setting,
    /// The runs and their places among all.
    pub runs: Vec<(usize, &'a RunScores, &'a Reading)>,
}

impl<'a> Group<'a> {
    /// The groups of all headlines, in the order of their first run; `others` = of the other readings.
    /// `configs` are the runs' [`common`] ones.
    pub(super) fn all(
        runs: &'a [RunScores],
        configs: &[Option<Experiment>],
        others: bool,
    ) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (place, run) in runs.iter().enumerate() {
            // Of several seeds of a probe the first stands for all.
            let mut seen: Vec<(&str, f64)> = Vec::new();
            for (i, reading) in run.probes.iter().enumerate() {
                let new = !seen.contains(&(reading.probe.as_str(), reading.labels));
                seen.push((reading.probe.as_str(), reading.labels));
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

    /// The mean of a figure over the runs that have it. Runs with the same `key` share what the figure is of, and
    /// count once: it must not seem to have been measured several times.
    fn mean<K: PartialEq>(
        &self,
        key: impl Fn(usize, &'a RunScores) -> K,
        of: impl Fn(&Reading) -> Option<f64>,
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

    /// The mean of a figure of the backdoored models: several defences of one count once.
    fn over_victims(&self, of: impl Fn(&Reading) -> Option<f64>) -> Option<Mean> {
        self.mean(|_, run| victim(run), of)
    }

    /// How many backdoored models there are of which `of` holds.
    fn victims_with(&self, of: impl Fn(&RunScores) -> bool) -> usize {
        let runs = self.runs.iter().map(|&(_, run, _)| run);
        runs.filter(|run| of(run)).map(victim).collect::<BTreeSet<_>>().len()
    }

    /// Backdoored models.
    pub(super) fn victims(&self) -> usize {
        self.victims_with(|_| true)
    }

    /// Those whose training fell short.
    pub(super) fn under_trained(&self) -> usize {
        self.victims_with(RunScores::under_trained)
    }

    /// How many times the figures of `model` were measured: a victim once, each of its defences apart.
    pub(super) fn measured(&self, model: &str) -> usize {
        if BASIC.contains(&model) { self.victims() } else { self.runs.len() }
    }

    /// Accuracy, FP and ASR of `model` on `images`, means over the runs.
    pub(super) fn cell(&self, model: &str, images: &str) -> [Option<Mean>; 3] {
        let scores = |r: &Reading| -> Option<_> { r.models.get(model)?.get(images).copied() };
        let acc = |r: &Reading| scores(r).map(|s| s.acc);
        let fp = |r: &Reading| scores(r)?.fp.map(|fp| fp as f64);
        let asr = |r: &Reading| scores(r)?.asr;
        match (model, images) {
            // Of a clean twin's predictions on clean images the accuracy is all that does not hang on the target.
            (UNTRAINED | CLEAN, CLEAN) => {
                [self.mean(|_, run| run.seed, acc), self.over_victims(fp), self.over_victims(asr)]
            }
            (UNTRAINED | CLEAN | BACKDOORED, _) => {
                [self.over_victims(acc), self.over_victims(fp), self.over_victims(asr)]
            }
            _ => [&acc as &dyn Fn(&Reading) -> Option<f64>, &fp, &asr]
                .map(|of| self.mean(|place, _| place, of)),
        }
    }

    /// Net ASR, or without a target the paired drop of the patched accuracy.
    pub(super) fn net(&self) -> Option<Mean> {
        self.over_victims(|r| Some(r.net.net_asr.unwrap_or(r.net.patched_drop)))
    }

    /// Accuracy on patched images that the poison costs: the twin's minus the backdoored model's. Large beside a small
    /// net ASR, it says that the trigger takes the model over but leads it elsewhere than to the target.
    pub(super) fn drop(&self) -> Option<Mean> {
        self.over_victims(|r| Some(r.net.patched_drop))
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.net().map_or(Verdict::Undecided, Verdict::of)
    }

    /// The defended models, as the first run names them.
    pub(super) fn defended(&self) -> Vec<&'a str> {
        let Some((_, _, reading)) = self.runs.first() else { return Vec::new() };
        let names = reading.models.keys().map(String::as_str);
        let mut names: Vec<&str> = names.filter(|name| !BASIC.contains(name)).collect();
        // By family, then by falling share.
        names.sort_by(|a, b| {
            let (a, b) = (family(a), family(b));
            a.0.cmp(b.0).then(b.1.total_cmp(&a.1))
        });
        names
    }

    /// (ASR on patched, accuracy on clean images) of `model`.
    pub(super) fn acc_against_asr(&self, model: &str) -> Option<(f64, f64)> {
        let [acc, ..] = self.cell(model, CLEAN);
        let [.., asr] = self.cell(model, PATCHED);
        Some((asr?.value, acc?.value))
    }
}

/// What makes a backdoored model, within a setting.
fn victim(run: &RunScores) -> (u64, Option<u32>, &str) {
    (run.seed, run.target, &run.trigger)
}

/// The name of a defended model without its share, and the share: `distilled-0.25` is (`distilled`, 0.25).
pub(super) fn family(model: &str) -> (&str, f64) {
    match model.rsplit_once('-').and_then(|(name, share)| Some((name, share.parse().ok()?))) {
        Some((name, share)) => (name, share),
        None => (model, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn target_trigger_and_seed_make_no_setting_but_crops_do() {
        let text = |seed: u64, target: u32, id: u32, crop: f64| {
            format!(
                "name = \"n{seed}\"\nseed = {seed}\ndata = {{ kind = \"shapes\", size = 32, per_class = 20 }}\n\
                 poison = {{ target = {target}, rate = 0.5, trigger = {{ kind = \"htba\", id = {id}, width = 8 }} }}\n\
                 probe = {{ labels = [0.1] }}\n[pretrain]\nmethod = {{ kind = \"rotnet\" }}\nepochs = 50\n\
                 encoder = {{ kind = \"resnet18\", width = 4, stem = \"small\" }}\ncrop = [{crop}, 1.0]\nbatch = 8\n\
                 schedule = {{ kind = \"cosine\" }}\n"
            )
        };
        let read = |text: String| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            std::fs::write(&path, text).unwrap();
            common(Experiment::read(&path, &[]).unwrap())
        };
        assert_eq!(read(text(1, 3, 12, 0.2)), read(text(2, 5, 17, 0.2)));
        assert_ne!(read(text(1, 3, 12, 0.2)), read(text(1, 3, 12, 0.4)));
    }

    #[test]
    fn what_runs_share_counts_once() {
        let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
        let run = RunScores::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(kept)).unwrap();
        let like = |seed, target| RunScores { seed, target: Some(target), ..run.clone() };
        let group = |runs: &[RunScores]| {
            let groups = Group::all(runs, &[], false);
            let [group] = groups.as_slice() else { panic!("{} groups", groups.len()) };
            let points = |mean: Option<Mean>| mean.is_some_and(|mean| mean.interval.is_some());
            let twin = group.cell(CLEAN, CLEAN)[0];
            (group.runs.len(), group.victims(), points(group.net()), points(twin))
        };
        // Three defences of one victim; two attacks with one clean twin; two trainings of each.
        assert_eq!(group(&[like(11, 5), like(11, 5), like(11, 5)]), (3, 1, false, false));
        assert_eq!(group(&[like(11, 5), like(11, 6)]), (2, 2, true, false));
        assert_eq!(group(&[like(11, 5), like(12, 5)]), (2, 2, true, true));
    }

    #[test]
    fn the_rule_of_the_verdict() {
        let net =
            |low: f64, high: f64| Mean { value: (low + high) / 2.0, interval: Some([low, high]) };
        for (low, high, word) in [
            (0.1, 9.0, "falls"),
            (0.1, 1.5, "falls"),
            (-3.0, 1.9, "resists"),
            (-1.0, 2.0, "undecided"),
            (0.0, 5.0, "undecided"),
        ] {
            assert_eq!(Verdict::of(net(low, high)).word(), word, "{low} {high}");
        }
        assert_eq!(Verdict::of(Mean { value: 9.0, interval: None }).word(), "undecided");
        assert_eq!(family("distilled-0.25-poisoned-0.05"), ("distilled-0.25-poisoned", 0.05));
        assert_eq!(family("backdoored"), ("backdoored", 0.0));
    }
}
