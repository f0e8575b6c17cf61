//! The part of an experiment that describes only the poison, for `poison` and `verify`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use ssl_backdoor_data::DataConfig;
use ssl_backdoor_trigger::{PoisonConfig, TriggerError};

use super::home;
use super::keys::keep_only;
use super::{ConfigError, Document, Source};

/// Which images are poisoned, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackConfig {
    /// Name of the experiment.
    #[serde(default)]
    pub name: String,
    /// Seed of all chance but the data set's own.
    #[serde(default)]
    pub seed: u64,
    /// The images.
    pub data: DataConfig,
    /// The attack.
    pub poison: PoisonConfig,
    /// Where its values were written.
    #[serde(skip)]
    pub(crate) source: Source,
}

impl AttackConfig {
    /// Reads the name, seed, `[data]` and `[poison]` of a config, which may be that of a whole experiment, with
    /// `sets` (`key=value`) applied.
    ///
    /// # Errors
    /// The file is absent or broken, a key is unknown, or a value is out of range.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let mut document = Document::open(path, sets)?;
        keep_only(&mut document, &["name", "seed", "data", "poison"]);
        let mut config = Self { source: document.clone().into(), ..document.read()? };
        home::expand_tables(&mut config.data, &mut config.poison, None);
        config.data.check().map_err(|e| document.wrong(e))?;
        check_poison(&config.data, &config.poison).map_err(|e| document.wrong(e))?;
        Ok(config)
    }
}

/// Checks the attack against the properties of the data that are known without reading it.
pub(crate) fn check_poison(data: &DataConfig, poison: &PoisonConfig) -> Result<(), TriggerError> {
    data.check_poison(poison)?;
    if let (Some(target), Some(classes)) = (&poison.target, data.class_names()) {
        target.index(&classes)?;
    }
    Ok(())
}
