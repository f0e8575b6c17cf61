//! The default training settings of each method.

use serde_json::{Value, json};
use ssl_backdoor_model::{EncoderConfig, Stem};
use ssl_backdoor_ssl::MethodConfig;

use super::shape::KIND;

/// Epochs for which the defaults are shown; schedules depend on them.
pub(super) const EPOCHS: usize = 200;

/// The settings that are shown; the learning rate is `lr` or `base_lr`.
pub(super) const SHOWN: [&str; 6] =
    ["batch", "weight_decay", "decayed", "optimizer", "schedule", "crop"];

/// The learning rate and the settings of [`SHOWN`] of the method `kind`, as TOML; none if there is no such method.
pub(super) fn defaults(kind: &str) -> Option<Vec<String>> {
    let method: MethodConfig = serde_json::from_value(json!({ "kind": kind })).ok()?;
    // Those for a transformer, which MoCo v3 has, are in docs/methods.md.
    let encoder = EncoderConfig::Resnet50 { width: 64, stem: Stem::Imagenet };
    let train = serde_json::to_value(method.settings().defaults(&encoder, EPOCHS)).ok()?;
    let rate = ["lr", "base_lr"]
        .into_iter()
        .find_map(|key| Some(format!("`{key} = {}`", toml_of(train.get(key)?)?)))?;
    let shown = SHOWN.iter().map(|key| Some(format!("`{}`", toml_of(train.get(*key)?)?)));
    std::iter::once(Some(rate)).chain(shown).collect()
}

/// The value as TOML, with `kind` first.
fn toml_of(value: &Value) -> Option<String> {
    let plain = |value: &Value| toml::Value::try_from(value).ok().map(|value| value.to_string());
    let Some(table) = value.as_object() else { return plain(value) };
    let mut keys: Vec<&String> = table.keys().collect();
    keys.sort_by_key(|key| *key != KIND);
    let pairs = keys.into_iter().map(|key| Some(format!("{key} = {}", plain(&table[key])?)));
    Some(format!("{{ {} }}", pairs.collect::<Option<Vec<_>>>()?.join(", ")))
}
