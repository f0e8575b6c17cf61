//! An experiment: one TOML file, parsed into a checked type. Only the checked type can run.

use std::path::Path;

use super::attack::check_poison;
use super::home;
use super::{ConfigError, Document, OfConfig, Source, Wrong, of_defence};
use crate::device;
use crate::record::hash;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::DataConfig;
use ssl_backdoor_defend::{DefendConfig, DefendError, check_names, one_or_several};
use ssl_backdoor_fields::require;
use ssl_backdoor_probe::ProbeConfig;
use ssl_backdoor_scan::ScanConfig;
use ssl_backdoor_ssl::{PretrainConfig, PretrainError};
use ssl_backdoor_trigger::PoisonConfig;

/// An experiment of ssl-backdoor. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Name of the run and of its folder. Range: letters, digits, `-`, `_` and `.`, not beginning with `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$"))]
    pub name: String,
    /// Seed of all random choices, except those of the data set.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    pub seed: u64,
    /// The device of the run: `flex` (CPU), `wgpu`, `cuda`, or a numbered GPU such as `cuda:1`.
    #[serde(default = "default_device")]
    pub device: String,
    /// Threads that prepare batches; results do not depend on their number. Default: all cores, at most 4.
    #[serde(default = "default_workers")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: usize,
    /// Writes event files for TensorBoard next to the logs: figures of each training, scores and sample images. Default:
    /// false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
    /// The images: which data set, from where, at which size, and which part of it is scored.
    pub data: DataConfig,
    /// The attack: which images are poisoned, and how. The keys `place`, `alpha` and `val_*` are for patches; other triggers
    /// have all their keys in `trigger`.
    pub poison: PoisonConfig,
    /// The training of the victim: the method, the network and the optimisation. Absent keys take the values of the
    /// method's reference code.
    pub pretrain: PretrainConfig,
    /// The evaluation: which classifier is trained on the frozen features, and with how many labels.
    pub probe: ProbeConfig,
    /// The defences. For several, write a list, each under its own `[[defend]]`. Default: none.
    #[schemars(schema_with = "one_or_several::schema")]
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "one_or_several")]
    pub defend: Vec<DefendConfig>,
    /// The scans: PatchSearch on the poisoned training images, DECREE and SSL-Cleanse on the clean twin and the backdoored
    /// model. An empty table has the default settings. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanConfig>,
    /// Where its values were written.
    #[serde(skip)]
    pub(crate) source: Source,
}

pub(crate) fn default_device() -> String {
    "flex".into()
}
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(4))
}

impl Experiment {
    /// Reads `path`, follows `extends`, applies `sets` (`key.path=value`) and checks everything that
    /// can be checked without the data.
    ///
    /// # Errors
    /// [`ConfigError`] that names the place where the value was written (file and line, or `--set`), the key, the
    /// value and what is allowed.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        Self::of(Document::open(path, sets)?)
    }

    /// The experiment of a config, checked.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn of(document: Document) -> Result<Self, ConfigError> {
        let mut experiment = Self { source: document.clone().into(), ..document.read()? };
        home::expand_tables(
            &mut experiment.data,
            &mut experiment.poison,
            Some(&mut experiment.probe),
        );
        experiment.defend.iter_mut().for_each(home::expand_defence);
        experiment.scan.iter_mut().for_each(home::expand_scan);
        experiment.check().map_err(|wrong| document.wrong(wrong))?;
        Ok(experiment)
    }

    /// Whether both have the same scores: they differ at most in `workers`, `tensorboard` and the number of the device.
    /// Configs are compared, not their hashes: a key added later has its default in an older config.
    pub(crate) fn scores_as(&self, other: &Self) -> bool {
        let settings = |experiment: &Self| {
            let device = device::backend(&experiment.device).into();
            Self { device, ..experiment.of_scores() }
        };
        settings(self) == settings(other)
    }

    /// The config with fixed values of `workers` and `tensorboard`, which do not change any score.
    pub(crate) fn of_scores(&self) -> Self {
        Self { workers: 1, tensorboard: false, ..self.clone() }
    }

    /// Hash of the resolved config without `workers` and `tensorboard`, which do not change any score.
    ///
    /// # Errors
    /// As [`to_toml`](Self::to_toml).
    pub(crate) fn hash(&self) -> Result<String, ConfigError> {
        Ok(hash(self.of_scores().to_toml()?.as_bytes()))
    }

    /// The resolved config as TOML text.
    ///
    /// # Errors
    /// A value that TOML cannot express (a seed above 2⁶³ − 1).
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self)
            .map_err(|e| ConfigError(format!("the config cannot be written as TOML: {e}")))
    }

    fn check(&self) -> Result<(), Wrong> {
        check_name(&self.name)?;
        let Self { seed, workers, .. } = *self;
        require(seed <= i64::MAX as u64, "seed", seed, "allowed are 0 to 2^63 - 1")?;
        require((1..=256).contains(&workers), "workers", workers, "allowed are 1 to 256")?;
        // Only opening it shows whether this machine has it: a config may be read on a machine that does not run it.
        device::check_name(&self.device)?;
        self.data.check()?;
        check_poison(&self.data, &self.poison)?;
        let encoder = &self.pretrain.encoder;
        encoder.check().map_err(PretrainError::of_encoder)?;
        // The size of the training set is unknown until the data is read; this check is repeated then.
        self.check_with(None)?;
        self.probe.check()?;
        let (stage, stages) = (self.probe.stage.unwrap_or(1), encoder.stage_count());
        let allowed = format!("allowed are 1 to {stages}, the stages of this encoder");
        Ok(require(stage <= stages, "probe.stage", stage, allowed)?)
    }

    /// Checks the settings that depend on the number of training images, as far as possible while that is unknown.
    pub(crate) fn check_with(&self, images: Option<usize>) -> Result<(), Wrong> {
        self.pretrain.check(images, self.data.size())?;
        for (i, defence) in self.defend.iter().enumerate() {
            let checked = defence.settings().check(&self.pretrain, images, self.data.size());
            checked.map_err(|e| self.wrong_defence(i, &e))?;
        }
        if let Some(scan) = &self.scan {
            scan.check(images, self.data.size()).map_err(|e| e.within("scan"))?;
        }
        Ok(check_names(&self.defend)?)
    }

    /// The config error of the defence at index `i`, with its key in the file: `defend.batch`, or `defend[1].batch`
    /// in a list.
    pub(crate) fn wrong_defence(&self, i: usize, error: &DefendError) -> Wrong {
        match self.source.is_list("defend") {
            true => of_defence(&format!("defend[{i}]"), error),
            false => error.wrong(),
        }
    }
}

/// Checks that a run folder can have this name.
pub(crate) fn check_name(name: &str) -> Result<(), Wrong> {
    let named = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !name.starts_with('.');
    if named {
        return Ok(());
    }
    let allowed = "allowed are letters, digits, '-', '_' and '.', not starting with '.'";
    Err(Wrong::about("name", format!("name = \"{name}\": invalid name: {allowed}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_trigger::{Place, TriggerConfig};

    const MINIMAL: &str = r#"name = "x"
seed = 1
[data]
kind = "shapes"
size = 32
per_class = 20
[poison]
target = 3
rate = 0.5
trigger = { kind = "htba", id = 12, width = 8 }
[pretrain]
method = { kind = "moco-v2", queue = 512 }
encoder = { kind = "resnet18", width = 4, stem = "small" }
epochs = 2
[probe]
labels = [0.1]
"#;

    fn read(text: &str, sets: &[&str]) -> Result<Experiment, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        Experiment::read(&path, &sets).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_the_papers_and_the_resolved_config_reads_back() {
        let experiment = read(MINIMAL, &[]).unwrap();
        assert_eq!(experiment.pretrain.train.learning_rate(), 0.06);
        assert_eq!(experiment.pretrain.train.batch, 256);
        assert_eq!(experiment.poison.val_place, Some(Place::VAL));
        assert_eq!(read(&experiment.to_toml().unwrap(), &[]).unwrap(), experiment);
    }

    #[test]
    fn set_overrides_and_extends_merges() {
        let sets = [
            "pretrain.epochs=7",
            "device=flex",
            "poison.trigger={kind=\"seeded\", seed=3, width=5}",
        ];
        let experiment = read(MINIMAL, &sets).unwrap();
        assert_eq!(experiment.pretrain.train.epochs, 7);
        assert_eq!(experiment.poison.trigger, TriggerConfig::Seeded { seed: 3, width: 5.into() });

        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("base.toml"), MINIMAL).unwrap();
        let child = folder.path().join("child.toml");
        std::fs::write(&child, "extends = \"base.toml\"\nname = \"y\"\n[pretrain]\nlr = 0.03\n")
            .unwrap();
        let experiment = Experiment::read(&child, &[]).unwrap();
        assert_eq!(
            (experiment.name.as_str(), experiment.pretrain.train.learning_rate()),
            ("y", 0.03)
        );
        assert_eq!(experiment.pretrain.train.epochs, 2);
        let counted = "extends = \"child.toml\"\nunset = [\"poison.rate\", \"pretrain.lr\"]\npoison.count = 2\n";
        std::fs::write(folder.path().join("counted.toml"), counted).unwrap();
        let experiment = Experiment::read(&folder.path().join("counted.toml"), &[]).unwrap();
        assert_eq!((experiment.poison.rate, experiment.poison.count), (None, Some(2)));
        assert_eq!(experiment.pretrain.train.learning_rate(), 0.06);
        std::fs::write(&child, "extends = \"child.toml\"\n").unwrap();
        assert!(Experiment::read(&child, &[]).unwrap_err().to_string().contains("circular"));
    }

    #[test]
    fn errors_point_at_the_line_and_say_what_is_allowed() {
        let message = read(&MINIMAL.replace("rate = 0.5", "rate = 1.5"), &[]).unwrap_err();
        assert!(message.contains("x.toml:9: poison.rate = 1.5"), "{message}");
        assert!(message.contains("0 < rate <= 1"), "{message}");
        let message = read(&MINIMAL.replace("epochs = 2", "epoch = 2"), &[]).unwrap_err();
        assert!(message.contains("x.toml:14: pretrain.epoch: unknown key"), "{message}");
        assert!(message.contains("did you mean epochs?"), "{message}");
        let message = read(MINIMAL, &["pretrain.method.queu=4"]).unwrap_err();
        assert!(message.contains("queu"), "{message}");
        let message = read(&MINIMAL.replace("target = 3", "target = 10"), &[]).unwrap_err();
        assert!(message.contains("x.toml:8: poison.target = 10"), "{message}");
        let message = read(&MINIMAL.replace("width = 8 }", "width = 40 }"), &[]).unwrap_err();
        assert!(
            message.contains(":10: poison.trigger.width = 40") && message.contains("1 to 32"),
            "{message}"
        );
    }

    /// Passes 100,000 mutated configs through the parser and all checks that need no data: no panic, and no message
    /// that shows a placeholder for an unknown number.
    #[test]
    fn changed_configs_are_read_or_refused() {
        use proptest::prelude::*;
        use proptest::test_runner::{Config, TestRunner};
        let defended =
            format!("{MINIMAL}[defend]\nkind = \"compress\"\nbatch = 64\nclean = [0.5]\n");
        let pieces: Vec<&str> = defended.split_inclusive(['=', '\n', ' ', ',']).collect();
        let value = prop_oneof![
            Just("-1".to_owned()),
            Just("1e300".into()),
            Just("nan".into()),
            Just("\"x\"".into()),
            Just("[[".into()),
            Just("{".into()),
            Just("0".into()),
            Just("1".into()),
            Just("true".into()),
            Just("18446744073709551616".into()),
            Just("\n[data]\n".into()),
            ".{0,8}",
        ];
        let change = (any::<prop::sample::Index>(), 0..3u8, value);
        let config = Config { cases: 100_000, failure_persistence: None, ..Config::default() };
        let strategy = prop::collection::vec(change, 1..4);
        let result = TestRunner::new(config).run(&strategy, |changes| {
            let mut pieces: Vec<String> = pieces.iter().map(|piece| piece.to_string()).collect();
            for (at, how, value) in changes {
                let at = at.index(pieces.len());
                match how {
                    0 => pieces[at] = value,
                    1 => pieces.insert(at, value),
                    _ => pieces[at].clear(),
                }
            }
            let text = pieces.concat();
            let path = Path::new("x.toml");
            let read = Document::of_text(path, &text).and_then(Experiment::of);
            if let Err(error) = read {
                let message = error.to_string();
                // The message names the file and uses the terms of the config.
                prop_assert!(message.contains("x.toml"), "{}", message);
                prop_assert!(!message.contains("untagged"), "{}", message);
                // No placeholder for "none", unless the config contains that number.
                let sentinels = [u64::MAX / 1000, i64::MAX as u64 / 1000].map(|n| n.to_string());
                let made_up = |n: &String| message.contains(n) && !text.contains(n);
                prop_assert!(!sentinels.iter().any(made_up), "{}", message);
            }
            let _ = crate::commands::parse_reference_config(&text);
            Ok(())
        });
        result.unwrap();
    }
}
