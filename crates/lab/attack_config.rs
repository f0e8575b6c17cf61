//! The part of an experiment's file that is about the poison alone: what `poison` and `verify` read.

use std::path::Path;

use serde::{Deserialize, Serialize};
use ssl_backdoor_data::DataConfig;
use ssl_backdoor_trigger::PoisonConfig;
use toml::Value;

use crate::config_table::{ConfigError, apply_set, read_table, toml_error};
use crate::home;

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
}

impl AttackConfig {
    /// Reads name, seed, `[data]` and `[poison]` of a config, which may be a whole experiment's, with `sets`
    /// (`key=value`) applied.
    ///
    /// # Errors
    /// The file is absent or broken, a key is unknown or a value out of range.
    pub fn read(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let mut table = read_table(path, 0)?;
        for set in sets {
            apply_set(&mut table, set)?;
        }
        for unused in ["device", "workers", "pretrain", "probe", "defend"] {
            table.remove(unused);
        }
        let mut config: Self = Value::Table(table).try_into().map_err(|e| toml_error(path, &e))?;
        home::expand_tables(&mut config.data, &mut config.poison, None);
        config.data.check().map_err(|e| ConfigError::at(path, e))?;
        check_poison(&config.data, &config.poison).map_err(|e| ConfigError::at(path, e))?;
        Ok(config)
    }
}

/// Checks the attack against what is known of the data without reading it.
pub(crate) fn check_poison(data: &DataConfig, poison: &PoisonConfig) -> Result<(), String> {
    poison.check().map_err(|e| e.to_string())?;
    if let (Some(target), Some(classes)) = (&poison.target, data.class_names()) {
        target.index(&classes).map_err(|e| e.to_string())?;
    }
    let picture = poison.trigger.build().map_err(|e| e.to_string())?.picture;
    let size = data.size();
    if picture.width() > size || picture.height() > size {
        return Err(format!(
            "poison.trigger.width = {} is wider than the images: the trigger is {} x {}, allowed are 1 \
             to {size} pixels",
            picture.width(),
            picture.width(),
            picture.height(),
        ));
    }
    Ok(())
}
