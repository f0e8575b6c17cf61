//! A sweep file: a base config and axes; every combination of their points is a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::config::Experiment;
use crate::config_table::{self, ConfigError};
use crate::{device, manifest};

/// The file. Unknown keys are errors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Name of the sweep and of its folder.
    name: String,
    /// Config that every run starts from, relative to this file; a point may name another.
    #[serde(default)]
    base: Option<PathBuf>,
    /// Where the run folders go; absent = `runs/NAME`.
    #[serde(default)]
    out: Option<PathBuf>,
    /// Where the figures of finished runs are kept; a run whose figures are there is not run again.
    #[serde(default)]
    results: Option<PathBuf>,
    /// Overrides of every run, by dotted key.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// The first axis changes slowest.
    axis: Vec<Axis>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Axis {
    /// What changes, in a word.
    name: String,
    /// The points in full; or:
    #[serde(default)]
    points: Vec<Point>,
    /// the dotted key that takes each of `values`.
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    values: Vec<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    /// A part of the run's name.
    name: String,
    /// Starts from this config instead of the base, relative to the sweep file.
    #[serde(default)]
    config: Option<PathBuf>,
    /// Overrides, by dotted key.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// Dotted keys that are taken out, after the overrides of earlier axes.
    #[serde(default)]
    unset: Vec<String>,
}

/// One run of a sweep.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Names of its points, joined by `_`; its folder.
    pub name: String,
    pub experiment: Experiment,
    /// The folder of its clean twin, relative to the sweep's.
    pub twin: String,
}

/// All runs of a sweep.
#[derive(Debug)]
pub(crate) struct Plan {
    pub name: String,
    /// Where the run folders go.
    pub out: PathBuf,
    /// Where figures are kept.
    pub results: Option<PathBuf>,
    pub runs: Vec<Run>,
}

impl Plan {
    /// Reads a sweep file and checks the config of every run; `sets` (`key.path=value`) come on top of all.
    ///
    /// # Errors
    /// [`ConfigError`] that names the file, and the run whose config is wrong.
    pub(crate) fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let text = config_table::read_text(path)?;
        let file: File = toml::from_str(&text).map_err(|e| config_table::toml_error(path, &e))?;
        let mut combinations: Vec<Vec<Point>> = vec![Vec::new()];
        for axis in &file.axis {
            let points = points(axis).map_err(|message| ConfigError::at(path, message))?;
            let with = |old: &Vec<Point>| {
                let one = |point: &Point| {
                    let mut new = old.clone();
                    new.push(point.clone());
                    new
                };
                points.iter().map(one).collect::<Vec<_>>()
            };
            combinations = combinations.iter().flat_map(with).collect();
        }
        let mut runs = Vec::new();
        for points in combinations {
            runs.push(run(path, &file, &points, sets)?);
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = runs.iter().find(|run| !names.insert(&run.name)) {
            let message = format!("axis: two runs are called {}", twice.name);
            return Err(ConfigError::at(path, message));
        }
        let out = file.out.unwrap_or_else(|| PathBuf::from("runs").join(&file.name));
        Ok(Self { name: file.name, out, results: file.results, runs })
    }

    /// The twins in the order they are needed.
    pub(crate) fn twins(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        self.runs.iter().map(|run| run.twin.as_str()).filter(|twin| seen.insert(*twin)).collect()
    }
}

/// The points of an axis.
fn points(axis: &Axis) -> Result<Vec<Point>, String> {
    let Axis { name, points, key, values } = axis;
    match (points.is_empty(), key) {
        (false, None) => Ok(points.clone()),
        (true, Some(key)) if !values.is_empty() => {
            let point = |value: &Value| Point {
                name: format!("{name}-{}", plain(value)),
                config: None,
                set: BTreeMap::from([(key.clone(), value.clone())]),
                unset: Vec::new(),
            };
            Ok(values.iter().map(point).collect())
        }
        _ => Err(format!("axis {name} needs points, or a key and values")),
    }
}

/// A value as a part of a folder's name.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    text.chars().map(allowed).collect::<String>().trim_matches('-').to_owned()
}

fn run(path: &Path, file: &File, points: &[Point], sets: &[String]) -> Result<Run, ConfigError> {
    let here = path.parent().unwrap_or(Path::new("."));
    let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
    let name = names.join("_");
    let within = |e: ConfigError| ConfigError(format!("{}, run {name}: {e}", path.display()));
    let base = points.iter().rev().find_map(|point| point.config.as_ref());
    let Some(base) = base.or(file.base.as_ref()) else {
        let message = format!("base: run {name} has no config to start from");
        return Err(ConfigError::at(path, message));
    };
    let mut table = config_table::read_table(&here.join(base), 0)?;
    let mut assign = |set: &BTreeMap<String, Value>, unset: &[String]| {
        unset.iter().for_each(|key| remove(&mut table, key));
        set.iter().try_for_each(|(key, value)| config_table::assign(&mut table, key, value.clone()))
    };
    assign(&file.set, &[]).map_err(within)?;
    for point in points {
        assign(&point.set, &point.unset).map_err(within)?;
    }
    sets.iter().try_for_each(|set| config_table::apply_set(&mut table, set)).map_err(within)?;
    table.insert("name".into(), Value::String(name.clone()));
    let experiment = Experiment::of_table(&here.join(base), table).map_err(within)?;
    if experiment.probe.curve_every > 0 {
        let message =
            "probe.curve_every must be 0: clean twins are shared, a curve belongs to one run";
        return Err(within(ConfigError(message.into())));
    }
    let twin = twin_folder(&experiment).map_err(within)?;
    Ok(Run { name, experiment, twin })
}

/// Runs with the same images, pretraining, seed and device share a clean twin.
fn twin_folder(experiment: &Experiment) -> Result<String, ConfigError> {
    let Experiment { data, pretrain, seed, .. } = experiment;
    let device = device::backend(&experiment.device);
    let text = serde_json::to_string(&(data, pretrain, seed, device))
        .map_err(|e| ConfigError(e.to_string()))?;
    let method = pretrain.method.settings().name();
    let hash = manifest::hash(text.as_bytes());
    Ok(format!("twins/{method}_seed-{seed}_{}", &hash[..8]))
}

fn remove(table: &mut Table, key: &str) {
    match key.split_once('.') {
        None => {
            table.remove(key);
        }
        Some((first, rest)) => {
            if let Some(inner) = table.get_mut(first).and_then(Value::as_table_mut) {
                remove(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"name = "x"
seed = 1
data = { kind = "shapes", size = 32, per_class = 20 }
poison = { target = 3, rate = 0.5, trigger = { kind = "htba", id = 12, width = 8 } }
[pretrain]
method = { kind = "moco-v2", queue = 512 }
encoder = { kind = "resnet18", width = 4, stem = "small" }
epochs = 2
[probe]
labels = [0.1]
"#;

    fn read(sweep: &str) -> Result<Plan, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("base.toml"), BASE).unwrap();
        let path = folder.path().join("sweep.toml");
        std::fs::write(&path, sweep).unwrap();
        Plan::read(&path, &["pretrain.lr=0.5".into()]).map_err(|e| e.to_string())
    }

    #[test]
    fn every_combination_is_a_run_and_twins_are_shared() {
        let plan = read(
            r#"name = "s"
base = "base.toml"
set = { "pretrain.epochs" = 3 }
[[axis]]
name = "pair"
points = [
    { name = "a", set = { seed = 1, "poison.target" = 4 } },
    { name = "b", set = { seed = 1, "poison.target" = 5 } },
    { name = "c", set = { seed = 2, "poison.target" = 5 } },
]
[[axis]]
name = "rate"
key = "poison.rate"
values = [0.25, 1.0]
[[axis]]
name = "how"
points = [{ name = "t" }, { name = "u", set = { "poison.count" = 7 }, unset = ["poison.rate", "poison.target"] }]
"#,
        )
        .unwrap();
        let names: Vec<&str> = plan.runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names.len(), 12);
        assert_eq!(names[..3], ["a_rate-0.25_t", "a_rate-0.25_u", "a_rate-1.0_t"]);
        let poison = &plan.runs[1].experiment.poison;
        assert_eq!((poison.rate, poison.count, &poison.target), (None, Some(7), &None));
        let pretrain = &plan.runs[11].experiment.pretrain;
        assert_eq!((pretrain.epochs, pretrain.learning_rate()), (3, 0.5));
        // Target, rate and trigger do not touch the clean twin; the seed does.
        assert_eq!(plan.twins().len(), 2);
        assert_eq!(plan.runs[0].twin, plan.runs[7].twin);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let axis = |axis: &str| format!("name = \"s\"\nbase = \"base.toml\"\n[[axis]]\n{axis}\n");
        for (sweep, words) in [
            (axis("name = \"rate\"\nkey = \"poison.rate\"\nvalues = [2.0]"), "run rate-2.0"),
            (axis("name = \"rate\"\nkey = \"poison.rat\"\nvalues = [0.5]"), "rat"),
            (axis("name = \"rate\"\n"), "needs points"),
            (axis("name = \"x\"\npoints = [{ name = \"a\" }, { name = \"a\" }]"), "two runs"),
            (axis("name = \"x\"\nvalue = 1"), "value"),
            (axis("name = \"x\"\nkey = \"probe.curve_every\"\nvalues = [1]"), "shared"),
            ("name = \"s\"\naxis = []".into(), "no config"),
        ] {
            let message = read(&sweep).unwrap_err();
            assert!(message.contains("sweep.toml") && message.contains(words), "{message}");
        }
    }
}
