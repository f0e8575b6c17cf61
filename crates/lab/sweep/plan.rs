//! A sweep file: a base config and axes; every combination of their points is a run.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use ssl_backdoor_data::Eval;
use toml::Value;

use crate::config::{
    self, Axis, ConfigError, Document, Experiment, Node, Origin, SweepFile, expanded,
};
use crate::device;
use crate::record::hash;
use crate::shell::{path_word, word};

/// A sweep file, and what the command line changes in it.
#[derive(Debug, Clone, Default)]
pub struct SweepSource {
    /// The file.
    pub file: PathBuf,
    /// Overrides of every run, `KEY=VALUE`.
    pub sets: Vec<String>,
    /// Folder of the run folders, in place of the file's `out`.
    pub out: Option<PathBuf>,
    /// Folder of the kept figures, in place of the file's `results`.
    pub results: Option<PathBuf>,
}

impl SweepSource {
    /// The options of `sweep` that name folders, with their values.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let options = [("--out", &self.out), ("--results", &self.results)];
        options.into_iter().filter_map(|(option, folder)| Some((option, folder.as_deref()?)))
    }
}

/// The file, the overrides and the folders as arguments of `sweep`, for commands that a message proposes.
impl fmt::Display for SweepSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&path_word(&self.file))?;
        self.sets.iter().try_for_each(|set| write!(f, " --set {}", word(set)))?;
        self.folders().try_for_each(|(option, folder)| write!(f, " {option} {}", path_word(folder)))
    }
}

/// A point of an axis, with the positions of its parts in the file.
#[derive(Debug, Clone)]
struct Choice {
    name: String,
    origin: Origin,
    /// A config, and the position of its name in the file.
    config: Option<(PathBuf, Origin)>,
    set: Vec<(String, Node)>,
    unset: Vec<String>,
}

/// One run of a sweep.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Names of its points, joined by `_`; also the name of its folder.
    pub name: String,
    pub experiment: Experiment,
    /// The folder of its clean twin, relative to the sweep's.
    pub twin: String,
}

/// All runs of a sweep.
#[derive(Debug)]
pub(crate) struct Plan {
    pub name: String,
    /// Folder of the run folders.
    pub out: PathBuf,
    /// Folder to which figures are copied.
    pub results: Option<PathBuf>,
    /// Whether its report tests the claims of the paper.
    pub claims: bool,
    pub runs: Vec<Run>,
}

impl Plan {
    /// Reads a sweep file and checks the config of every run; the overrides of `source` come last.
    ///
    /// # Errors
    /// [`ConfigError`] that names the file, and the run whose config is wrong.
    pub(crate) fn read(source: &SweepSource) -> Result<Self, ConfigError> {
        let path = &source.file;
        let document = Document::one_file(path)?;
        let file: SweepFile = document.read()?;
        config::check_name(&file.name).map_err(|message| document.wrong(message))?;
        let mut combinations: Vec<Vec<Choice>> = vec![Vec::new()];
        for (i, axis) in file.axis.iter().enumerate() {
            let choices = choices(&document, i, axis)?;
            let with = |old: &Vec<Choice>| {
                let one = |choice: &Choice| {
                    let mut new = old.clone();
                    new.push(choice.clone());
                    new
                };
                choices.iter().map(one).collect::<Vec<_>>()
            };
            combinations = combinations.iter().flat_map(with).collect();
        }
        let mut runs = Vec::new();
        for points in combinations {
            runs.push(run(path, &document, &file, &points, &source.sets)?);
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = runs.iter().find(|run| !names.insert(&run.name)) {
            let message = format!("two runs are called {}", twice.name);
            return Err(document.at_key("axis", &message));
        }
        let place = |given: &Option<PathBuf>, own: Option<PathBuf>| {
            given.clone().or_else(|| own.map(expanded))
        };
        let out = place(&source.out, file.out);
        let out = out.unwrap_or_else(|| PathBuf::from("runs").join(&file.name));
        let results = place(&source.results, file.results);
        Ok(Self { name: file.name, out, results, claims: file.claims, runs })
    }

    /// The twins in the order in which they are needed.
    pub(crate) fn twins(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        self.runs.iter().map(|run| run.twin.as_str()).filter(|twin| seen.insert(*twin)).collect()
    }

    /// The twins that the runs of `todo` need.
    pub(crate) fn twins_of(&self, todo: &[&Run]) -> Vec<&str> {
        let needed = |twin: &&str| todo.iter().any(|run| run.twin == *twin);
        self.twins().into_iter().filter(needed).collect()
    }
}

/// The points of the axis at index `i`.
fn choices(document: &Document, i: usize, axis: &Axis) -> Result<Vec<Choice>, ConfigError> {
    let i = &i.to_string();
    let Axis { name, points, key, values } = axis;
    // Never `None`: these values were read from the document.
    let node = |path: &[&str]| document.at(&[&["axis", i], path].concat());
    let mut all = Vec::new();
    match (points.is_empty(), key) {
        (false, None) => {
            for (j, point) in points.iter().enumerate() {
                let j = &j.to_string();
                let part = |part| node(&["points", j, part]);
                let Some(Node { origin, .. }) = part("name") else { continue };
                let config = point.config.clone().zip(part("config"));
                let value =
                    |key: &String| Some((key.clone(), node(&["points", j, "set", key])?.clone()));
                all.push(Choice {
                    name: point.name.clone(),
                    origin: origin.clone(),
                    config: config.map(|(path, node)| (path, node.origin.clone())),
                    set: point.set.keys().filter_map(value).collect(),
                    unset: point.unset.clone(),
                });
            }
        }
        (true, Some(key)) if !values.is_empty() => {
            for (k, value) in values.iter().enumerate() {
                let Some(node) = node(&["values", &k.to_string()]) else { continue };
                all.push(Choice {
                    name: format!("{name}-{}", plain(value)),
                    origin: node.origin.clone(),
                    config: None,
                    set: vec![(key.clone(), node.clone())],
                    unset: Vec::new(),
                });
            }
        }
        _ => {
            let message = format!("axis {name} needs points, or a key and values");
            return Err(document.at_key(&format!("axis[{i}].name"), &message));
        }
    }
    for Choice { name, origin, .. } in &all {
        config::check_name(name).map_err(|message| ConfigError(format!("{origin}: {message}")))?;
    }
    Ok(all)
}

/// A value as a part of a folder's name.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    text.chars().map(allowed).collect::<String>().trim_matches('-').to_owned()
}

fn run(
    path: &Path,
    document: &Document,
    file: &SweepFile,
    choices: &[Choice],
    sets: &[String],
) -> Result<Run, ConfigError> {
    let names: Vec<&str> = choices.iter().map(|choice| choice.name.as_str()).collect();
    let name = names.join("_");
    let note = format!("run {name} of {}", path.display());
    let own =
        document.at(&["base"]).and_then(|node| Some((file.base.clone()?, node.origin.clone())));
    let Some((base, origin)) =
        choices.iter().rev().find_map(|choice| choice.config.clone()).or(own)
    else {
        let shown = path.display();
        return Err(ConfigError(format!("{shown}: run {name} has no config to start from")));
    };
    let base = path.parent().unwrap_or(Path::new("")).join(expanded(base));
    if let Err(e) = std::fs::File::open(&base) {
        return Err(ConfigError(format!("{origin}: cannot read {}: {e}", base.display())));
    }
    let mut config = Document::open(&base, &[])?.with_note(note);
    for key in file.set.keys() {
        if let Some(node) = document.at(&["set", key]) {
            config.assign(key, node.clone())?;
        }
    }
    for choice in choices {
        choice.unset.iter().for_each(|key| config.remove(key));
        for (key, node) in &choice.set {
            config.assign(key, node.clone())?;
        }
    }
    sets.iter().try_for_each(|set| config.set(set))?;
    let origin = choices.first().map_or(origin, |choice| choice.origin.clone());
    config.assign("name", Node::text(&name, origin))?;
    let experiment = Experiment::of(config)?;
    let twin = twin_folder(&experiment)?;
    Ok(Run { name, experiment, twin })
}

/// The folder of the clean twin, which runs with the same training images, pretraining, seed and device share; if the
/// attack is measured during the training, only runs that also have the same attack and probe.
fn twin_folder(experiment: &Experiment) -> Result<String, ConfigError> {
    let Experiment { data, poison, pretrain, probe, seed, .. } = experiment;
    let device = device::backend(&experiment.device);
    // The part that is scored does not affect the training.
    let data = data.clone().with_eval(Eval::default());
    let mut text = serde_json::to_string(&(data, pretrain, seed, device))
        .map_err(|e| ConfigError(e.to_string()))?;
    if probe.curve_every > 0 {
        text += &serde_json::to_string(&(poison, probe)).map_err(|e| ConfigError(e.to_string()))?;
    }
    let method = pretrain.method.settings().name();
    let hash = hash(text.as_bytes());
    Ok(format!("twins/{method}_seed-{seed}_{}", &hash[..8]))
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
        let file = folder.path().join("sweep.toml");
        std::fs::write(&file, sweep).unwrap();
        let sets = vec!["pretrain.lr=0.5".into()];
        Plan::read(&SweepSource { file, sets, ..SweepSource::default() }).map_err(|e| e.to_string())
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
    { name = "b", set = { seed = 1, "poison.target" = 5, "data.eval" = "test" } },
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
        let pretrain = &plan.runs[11].experiment.pretrain.train;
        assert_eq!((pretrain.epochs, pretrain.learning_rate()), (3, 0.5));
        // Target, rate, trigger and the scored images do not affect the clean twin; the seed does.
        assert_eq!(plan.twins().len(), 2);
        assert_eq!(plan.runs[0].twin, plan.runs[7].twin);
    }

    #[test]
    fn a_twin_whose_attack_is_measured_belongs_to_one_attack() {
        let plan = read(
            r#"name = "s"
base = "base.toml"
set = { "probe.curve_every" = 1 }
[[axis]]
name = "target"
key = "poison.target"
values = [4, 5]
[[axis]]
name = "defence"
points = [{ name = "none" }, { name = "luma", set = { defend = { kind = "luma" } } }]
"#,
        )
        .unwrap();
        let twins: Vec<&str> = plan.runs.iter().map(|run| run.twin.as_str()).collect();
        assert_eq!((twins[0], twins[2]), (twins[1], twins[3]));
        assert_ne!(twins[0], twins[2]);
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
            ("name = \"s\"\naxis = []".into(), "no config"),
        ] {
            let message = read(&sweep).unwrap_err();
            assert!(message.contains("sweep.toml") && message.contains(words), "{message}");
        }
    }
}
