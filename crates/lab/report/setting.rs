//! The setting that runs must share to be one row of a table.

use ssl_backdoor_defend::{DefenceSettings, ModelId};
use ssl_backdoor_probe::ProbeConfig;
use ssl_backdoor_trigger::{TriggerConfig, strength};
use toml::{Table, Value};

use crate::config::Experiment;
use crate::record::{ProbeId, ProbeResult, RunScores, percent};

/// The paper's attack, which is also assumed for runs without a config.
const PATCH: &str = "patch";

/// What the runs of a group share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    pub data: String,
    pub method: String,
    /// The attack, [in a word](ssl_backdoor_trigger::PoisonConfig::kind).
    pub attack: String,
    pub eval: String,
    pub train_images: usize,
    pub steps: usize,
    /// Poisoned share of the target class, in thousandths, or of the set if other images are poisoned.
    rate: u32,
    /// Whether `rate` is a share of the target class.
    of_class: bool,
    pub targeted: bool,
    /// Poisoned share of the set. It may differ by rounding between runs with the same rate.
    dataset_rate: f64,
    /// The strength of the trigger from its description: the width of a patch.
    strength: String,
    /// Numerics version; `None` for runs that mix several.
    pub numerics: Option<u32>,
    /// `linear` and so on, and the share of labels.
    pub probe: ProbeId,
    pub labels: f64,
    /// The rest of the config, if it is stored beside the scores: without the keys in which runs of a group may
    /// differ, and without the probe, which `probe` and `labels` describe.
    config: Option<Experiment>,
}

/// The part of a config that runs of one setting share: without name, target and seeds, and with only the width of the
/// paper's triggers.
pub(super) fn common(config: Experiment) -> Experiment {
    let mut poison = config.poison;
    poison.target = None;
    if let TriggerConfig::Htba { width, .. } | TriggerConfig::Seeded { width, .. } = poison.trigger
    {
        poison.trigger = TriggerConfig::Solid { color: [0; 3], width };
    }
    // The encoder and the images that a rule chose belong to the run.
    if let Some(select) = &mut poison.select {
        (select.encoder, select.chosen) = (None, None);
    }
    let probe = ProbeConfig::default();
    let mut defend = config.defend;
    defend.iter_mut().for_each(|defence| defence.settings_mut().forget_seed());
    Experiment {
        name: String::new(),
        seed: 0,
        workers: 1,
        tensorboard: false,
        poison,
        probe,
        defend,
        ..config
    }
}

impl Setting {
    pub(super) fn of(run: &RunScores, reading: &ProbeResult, config: Option<&Experiment>) -> Self {
        let rate = run.poison.rate.unwrap_or(run.poison.dataset_rate);
        Self {
            data: run.data.clone(),
            method: run.method.clone(),
            attack: config.map_or(PATCH.into(), |config| config.poison.kind()),
            eval: format!("{:?}", run.eval).to_lowercase(),
            train_images: run.train_images,
            steps: run.steps,
            rate: (1000.0 * rate).round() as u32,
            of_class: run.poison.rate.is_some(),
            targeted: run.target.is_some(),
            dataset_rate: run.poison.dataset_rate,
            strength: strength(&run.trigger).to_owned(),
            numerics: run.numerics(),
            probe: reading.probe.clone(),
            labels: reading.labels,
            config: config.cloned(),
        }
    }

    /// Whether it is the attack of the paper's figures.
    pub(super) fn is_of_paper(&self) -> bool {
        self.attack == PATCH
    }

    /// The attack, unless it is the paper's, and the poisoned share, in words.
    pub(super) fn poison(&self) -> String {
        let attack = if self.is_of_paper() { "" } else { &format!("{}, ", self.attack) };
        format!("{attack}{}", self.amount())
    }

    /// What a row of the main table shows of it.
    pub(super) fn row(&self) -> String {
        format!("{}, {}, {}", self.victim(), self.poison(), self.reading())
    }

    /// The victim, in words.
    pub(super) fn victim(&self) -> String {
        format!("{}, {}, {} steps", self.method, self.data, self.steps)
    }

    /// The probe and its labels, in words.
    pub(super) fn reading(&self) -> String {
        format!("{}, {} % labels", self.probe, percent(self.labels))
    }

    /// The poisoned share of the target class in percent; none if other images are poisoned.
    pub(super) fn rate_of_class(&self) -> Option<f64> {
        self.of_class.then(|| f64::from(self.rate) / 10.0)
    }

    /// The poisoned share, in words.
    pub(super) fn amount(&self) -> String {
        let rate = f64::from(self.rate) / 10.0;
        if self.of_class {
            let set = 100.0 * self.dataset_rate;
            format!("{rate:.1} % of the class ({set:.2} % of the set), {}", self.strength)
        } else if self.targeted {
            format!("{rate:.2} % of the set, {}", self.strength)
        } else {
            format!("{rate:.2} % of the set, untargeted, {}", self.strength)
        }
    }

    /// The parts of a chart's label, besides the method.
    pub(super) fn parts(&self) -> [String; 10] {
        let Self { data, strength, steps, probe, labels, .. } = self;
        let pretrain = self.config.as_ref().map(|config| &config.pretrain.train);
        let rate = f64::from(self.rate) / 10.0;
        let of = if self.of_class { "" } else { " of the set" };
        [
            data.clone(),
            self.attack.clone(),
            format!("{rate} %{of}"),
            strength.clone(),
            format!("{steps} steps"),
            probe.to_string(),
            format!("{} % labels", percent(*labels)),
            pretrain.map_or(String::new(), |p| format!("batch {}", p.batch)),
            pretrain.map_or(String::new(), |p| format!("crops {} to {}", p.crop.0, p.crop.1)),
            self.numerics.map_or("mixed numerics".into(), |version| format!("numerics {version}")),
        ]
    }

    /// Everything that distinguishes settings: the config, the scored images and the numerics version.
    pub(super) fn tree(&self) -> Value {
        let config = self.config.as_ref().and_then(|config| Value::try_from(config).ok());
        let mut tree = match config {
            Some(Value::Table(tree)) => tree,
            _ => Table::from_iter([("config".to_owned(), "unknown".into())]),
        };
        // These are the same in all settings, whatever the config said.
        for key in ["name", "seed", "workers", "tensorboard", "probe"] {
            tree.remove(key);
        }
        tree.insert("eval".into(), self.eval.clone().into());
        if let Some(version) = self.numerics {
            tree.insert("numerics".into(), i64::from(version).into());
        }
        tree.into()
    }

    /// The length of the training of the defended `model`, in words; `None` if its defence is unknown.
    pub(super) fn training(&self, model: &ModelId) -> Option<&'static str> {
        let configs = self.config.as_ref()?.defend.iter().map(|defence| defence.settings());
        let makes = |settings: &&dyn DefenceSettings| {
            settings.defences().iter().any(|defence| defence.model() == *model)
        };
        configs.into_iter().find(makes).map(|settings| settings.training())
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        Self { dataset_rate: 0.0, ..self.clone() } == Self { dataset_rate: 0.0, ..other.clone() }
    }
}

#[cfg(test)]
mod tests {
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
}
