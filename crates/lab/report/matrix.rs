//! Attacks × defences: the effect of each attack on each method after each defence.
//!
//! A row is an attack on a method in one setting. Runs that differ only in their defences share a row, so a sweep of
//! undefended victims and one of defended victims fill the same rows. Every defended model is compared with the clean
//! twin without a defence.

use ssl_backdoor_defend::{ModelId, Role};

use super::destinations::{Effect, elsewhere};
use super::distinct::{distinctions, with};
use super::group::{self, by_series, victim};
use super::mean::{Mean, shown, with_interval};
use super::setting::Setting;
use super::table::{Row, Table};
use crate::config::Experiment;
use crate::record::{BACKDOORED, Images, Manifest, ProbeResult, RunScores, StageId};

/// The two tables.
pub(super) struct Matrix {
    /// Net ASR: a row for each attack on a method, a column for each defence.
    pub nets: Table,
    /// All other figures: a row for each defended model.
    pub details: Table,
}

/// A run's index among all runs, the run, and its headline result.
type Found<'a> = (usize, &'a RunScores, &'a ProbeResult);

/// The runs of one attack on one method.
struct Line<'a> {
    setting: Setting,
    /// The method, and what tells the row from others with the same attack and method.
    victim: String,
    runs: Vec<Found<'a>>,
}

impl<'a> Line<'a> {
    /// All rows, in the order of their first run. `configs` are the runs' [`common`](super::setting::common) configs.
    fn all(runs: &'a [RunScores], configs: &[Option<Experiment>]) -> Vec<Self> {
        let mut lines: Vec<Self> = Vec::new();
        for (place, (run, config)) in runs.iter().zip(configs).enumerate() {
            let (Some(config), Some(reading)) = (config, run.probes.first()) else { continue };
            let config = Experiment { defend: Vec::new(), ..config.clone() };
            let setting = Setting::of(run, reading, Some(&config));
            let found = (place, run, reading);
            match lines.iter_mut().find(|line| line.setting.same(&setting)) {
                Some(line) => line.runs.push(found),
                None => lines.push(Self { setting, victim: String::new(), runs: vec![found] }),
            }
        }
        let label = |line: &Self| format!("{} on {}", line.setting.attack, line.setting.method);
        let rows: Vec<_> = lines.iter().map(|line| (label(line), &line.setting)).collect();
        let distinctions = distinctions(&rows);
        for (line, distinction) in lines.iter_mut().zip(distinctions) {
            line.victim = with(&line.setting.method, &distinction);
        }
        lines
    }

    /// The first run of each backdoored model.
    fn victims(&self) -> Vec<Found<'a>> {
        let mut seen = Vec::new();
        let new = |(_, run, _): &Found<'a>| {
            let new = !seen.contains(&victim(run));
            seen.push(victim(run));
            new
        };
        self.runs.iter().copied().filter(new).collect()
    }

    /// The runs that have `model`; `None` is the backdoored model.
    fn with(&self, model: Option<&ModelId>) -> Vec<Found<'a>> {
        match model {
            None => self.victims(),
            Some(model) => {
                let has = |(_, _, reading): &Found<'a>| reading.defended.contains_key(model);
                self.runs.iter().copied().filter(has).collect()
            }
        }
    }

    /// The mean net ASR, with its interval.
    fn net(&self, model: Option<&ModelId>) -> String {
        let net = over_victims(&self.with(model), |(_, _, reading)| match model {
            None => reading.net.net_asr,
            Some(model) => reading.defended.get(model)?.net.net_asr,
        });
        with_interval(net)
    }

    /// The largest net flow to another class than the target.
    fn elsewhere(&self, model: Option<&ModelId>) -> String {
        with_interval(over_victims(&self.with(model), |(_, run, reading)| {
            let flow = match model {
                None => reading.flow.as_ref()?,
                Some(model) => &reading.defended.get(model)?.flow,
            };
            elsewhere(flow, run.target?)
        }))
    }

    /// How many of the models are targeted, taken over, or neither.
    fn effects(&self, model: Option<&ModelId>) -> String {
        let found = self.with(model);
        let effects = found.iter().filter_map(|(_, run, reading)| {
            let (flow, net) = match model {
                None => (reading.flow.as_ref()?, &reading.net),
                Some(model) => {
                    let against = reading.defended.get(model)?;
                    (&against.flow, &against.net)
                }
            };
            Some(Effect::of(flow, run.target, net.patched_drop))
        });
        group::counted(effects)
    }

    /// A row of the details.
    fn details(&self, model: Option<&ModelId>, manifests: &[Manifest]) -> Row {
        let found = self.with(model);
        let key = model.map_or(BACKDOORED, ModelId::as_str);
        let mean = |of: &dyn Fn(&Found<'a>) -> Option<f64>| over_victims(&found, of);
        let scores = |(_, _, reading): &Found<'a>, model: &str, images| {
            reading.models.get(model)?.get(&images).copied()
        };
        let acc = |images| mean(&move |found| Some(scores(found, key, images)?.acc));
        let cost = |found: &Found<'a>| {
            let of = |model| Some(scores(found, model, Images::Clean)?.acc);
            Some(of(BACKDOORED)? - of(key)?)
        };
        let stage = match model {
            None => StageId::pretrain(Role::BACKDOORED),
            Some(model) => StageId::Defend(model.clone()),
        };
        let seconds = mean(&|(place, ..)| Some(manifests.get(*place)?.stages.get(&stage)?.seconds));
        let cells = vec![
            self.setting.attack.clone(),
            format!("{}, {}", self.victim, self.setting.amount()),
            model.map_or("none".into(), ModelId::to_string),
            found.len().to_string(),
            shown(acc(Images::Clean)),
            if model.is_some() { shown(mean(&cost)) } else { "-".into() },
            shown(acc(Images::Patched)),
            shown(mean(&|found| scores(found, key, Images::Patched)?.asr)),
            self.net(model),
            self.elsewhere(model),
            self.effects(model),
            seconds.map_or("-".into(), |mean| format!("{:.0}", mean.value)),
        ];
        Row { cells, anchor: self.anchor() }
    }

    fn anchor(&self) -> String {
        self.runs.first().map_or(String::new(), |&(place, ..)| group::anchor(place))
    }
}

/// The mean of a figure over the victims of `found`; several defences of one victim count once.
fn over_victims<'a>(found: &[Found<'a>], of: impl Fn(&Found<'a>) -> Option<f64>) -> Option<Mean> {
    Mean::of_units(found.iter().filter_map(|run| Some((victim(run.1), of(run)?))))
}

const DETAILS_HEAD: [&str; 12] = [
    "Attack",
    "Victim",
    "Defence",
    "Runs",
    "clean: Acc",
    "cost: Acc",
    "patched: Acc",
    "ASR",
    "net ASR",
    "largest net flow elsewhere",
    "effect",
    "training, s",
];

/// The matrix; `None` for fewer than two attacks without any defence.
pub(super) fn matrix(
    runs: &[RunScores],
    configs: &[Option<Experiment>],
    manifests: &[Manifest],
) -> Option<Matrix> {
    let lines = Line::all(runs, configs);
    let models = defended(&lines);
    let several = lines
        .iter()
        .any(|line| Some(&line.setting.attack) != lines.first().map(|l| &l.setting.attack));
    if models.is_empty() && !several {
        return None;
    }
    let mut head = ["Attack", "Victim", "none"].map(String::from).to_vec();
    head.extend(models.iter().map(|model| model.to_string()));
    let columns = || std::iter::once(None).chain(models.iter().copied().map(Some));
    let row = |line: &Line<'_>| {
        let mut cells = vec![line.setting.attack.clone(), line.victim.clone()];
        cells.extend(columns().map(|model| line.net(model)));
        Row { cells, anchor: line.anchor() }
    };
    let nets = Table { head, rows: lines.iter().map(row).collect() };
    let mut rows = Vec::new();
    for line in &lines {
        let there = columns().filter(|model| !line.with(*model).is_empty());
        rows.extend(there.map(|model| line.details(model, manifests)));
    }
    Some(Matrix { nets, details: Table { head: DETAILS_HEAD.map(String::from).to_vec(), rows } })
}

/// All defended models; controls after the others, each series by decreasing share.
fn defended<'a>(lines: &[Line<'a>]) -> Vec<&'a ModelId> {
    let mut models: Vec<&ModelId> = Vec::new();
    for (_, _, reading) in lines.iter().flat_map(|line| &line.runs) {
        for model in reading.defended.keys() {
            if !models.contains(&model) {
                models.push(model);
            }
        }
    }
    models.sort_by(|a, b| {
        let control = |model: &ModelId| model.role().is_control();
        control(a).cmp(&control(b)).then(by_series(a, b))
    });
    models
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::{Against, Published};
    use crate::report::comparison;
    use crate::report::group::Group;
    use crate::report::setting::common;

    const PATCH: &str = "{ kind = \"htba\", id = 12, width = 8 }";
    const BLEND: &str = "{ kind = \"blend\", seed = 3, ratio = 0.1 }";

    fn config(seed: u64, trigger: &str, defend: &str) -> Experiment {
        config_with(seed, trigger, defend, &[])
    }

    fn config_with(seed: u64, trigger: &str, defend: &str, set: &[String]) -> Experiment {
        let text = format!(
            "name = \"n{seed}\"\nseed = {seed}\ndata = {{ kind = \"shapes\", size = 32, per_class = 20 }}\n{defend}\n\
             poison = {{ target = 5, rate = 0.5, trigger = {trigger} }}\nprobe = {{ labels = [0.1] }}\n[pretrain]\n\
             method = {{ kind = \"byol\" }}\nencoder = {{ kind = \"resnet18\", width = 4, stem = \"small\" }}\n\
             epochs = 50\nbatch = 8\nschedule = {{ kind = \"cosine\" }}\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        common(Experiment::read(&path, set).unwrap())
    }

    /// A run whose backdoored model has the net ASR `net`. Its student, if it has one, has the net ASR `student` and
    /// is two points less accurate.
    fn scores(seed: u64, trigger: &str, net: f64, student: Option<f64>) -> RunScores {
        let kept = "results/fashion-mnist/runs/sandal-17_byol/scores.json";
        let run = RunScores::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(kept)).unwrap();
        let mut run = RunScores { seed, trigger: trigger.into(), ..run };
        let flow = run.flow.clone().unwrap_or(ssl_backdoor_probe::Flow {
            net: vec![0.0; 10],
            lost: 0,
            lift: None,
        });
        run.probes.truncate(1);
        let reading = &mut run.probes[0];
        reading.net.net_asr = Some(net);
        if let Some(student) = student {
            let net = ssl_backdoor_probe::Paired { net_asr: Some(student), ..reading.net };
            reading.defended.insert("distilled-0.1".into(), Against { net, flow });
            let mut sets = reading.models[BACKDOORED].clone();
            sets.values_mut().for_each(|scores| scores.acc -= 2.0);
            reading.models.insert("distilled-0.1".into(), sets);
        }
        run
    }

    #[test]
    fn defended_and_undefended_runs_of_a_victim_fill_one_line() {
        let compress = "defend = { kind = \"compress\", clean = [0.1] }";
        let runs = [
            scores(1, "patch", 10.0, None),
            scores(2, "patch", 20.0, None),
            scores(1, "blend", 3.0, None),
            scores(1, "patch", 10.0, Some(1.0)),
            scores(2, "patch", 20.0, Some(3.0)),
        ];
        let configs = [
            config(1, PATCH, ""),
            config(2, PATCH, ""),
            config(1, BLEND, ""),
            config(1, PATCH, compress),
            config(2, PATCH, compress),
        ]
        .map(Some);
        let matrix = matrix(&runs, &configs, &[]).unwrap();
        assert_eq!(matrix.nets.head, ["Attack", "Victim", "none", "distilled-0.1"]);
        let cells: Vec<&[String]> = matrix.nets.rows.iter().map(|row| &row.cells[..]).collect();
        // Two victims, each once: 15 ± 12.706 · 7.07 / √2, and 2 ± 12.706.
        assert_eq!(
            cells,
            [
                &["patch", "byol", "15.0 ± 63.5 [-48.5, 78.5]", "2.0 ± 12.7 [-10.7, 14.7]"][..],
                &["blend", "byol", "3.0", "-"][..],
            ]
        );
        let of = |column: usize| -> Vec<&str> {
            matrix.details.rows.iter().map(|row| row.cells[column].as_str()).collect()
        };
        assert_eq!(of(0), ["patch", "patch", "blend"]);
        assert_eq!(of(2), ["none", "distilled-0.1", "none"]);
        assert_eq!(of(3), ["2", "2", "1"]);
        // Both victims are 2 points more accurate than their students.
        assert_eq!(of(5), ["-", "2.0 ± 0.0", "-"]);
    }

    #[test]
    fn the_published_figures_stand_beside_the_patch_alone() {
        let runs = [scores(1, "patch", 10.0, None), scores(1, "blend", 3.0, None)];
        let configs = [config(1, PATCH, ""), config(1, BLEND, "")].map(Some);
        let groups = Group::all(&runs, &configs, false);
        let poison: Vec<String> = groups.iter().map(|group| group.setting.poison()).collect();
        assert!(poison[1].starts_with("blend, ") && poison[0].starts_with("50.0 %"), "{poison:?}");
        let published = Published::read().unwrap();
        for table in [comparison::main, comparison::others] {
            let rows = table(&groups, &published).unwrap().rows;
            assert_eq!((groups.len(), rows.len()), (2, 1));
        }
    }

    #[test]
    fn settings_beside_published_figures_name_what_tells_them_apart() {
        let runs = [1, 2, 3].map(|seed| scores(seed, "patch", 10.0, None));
        let settings = |precision: &str, count: usize| -> Vec<String> {
            let set = [format!("pretrain.precision=\"{precision}\"")];
            let [first, third] = [1, 3].map(|seed| config(seed, PATCH, ""));
            let configs = [first, config_with(2, PATCH, "", &set), third].map(Some);
            let groups = Group::all(&runs[..count], &configs[..count], false);
            let table = comparison::main(&groups, &Published::read().unwrap()).unwrap();
            table.rows.into_iter().map(|row| row.setting).collect()
        };
        let [one] = &settings("f32", 2)[..] else { panic!("two rows of one setting") };
        assert!(one.ends_with("backdoored models: 2"), "{one}");
        // Also if one of them has more runs.
        for count in [2, 3] {
            let [first, second] = &settings("bf16", count)[..] else { panic!("not two rows") };
            assert!(first.ends_with(", no pretrain.precision"), "{first}");
            assert!(second.ends_with(", pretrain.precision = \"bf16\""), "{second}");
        }
    }

    #[test]
    fn one_attack_without_a_defence_is_no_matrix() {
        let runs = [scores(1, "patch", 10.0, None), scores(2, "patch", 20.0, None)];
        let configs = [config(1, PATCH, ""), config(2, PATCH, "")].map(Some);
        assert!(matrix(&runs, &configs, &[]).is_none());
        // Runs without a config are in no row.
        assert!(matrix(&runs, &[None, None], &[]).is_none());
    }
}
