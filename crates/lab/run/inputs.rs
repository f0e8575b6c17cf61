//! The inputs of a stage, part by part, so that a repeated stage can name what changed.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::device;
use crate::record::{NUMERICS, hash};

/// Largest number of differences that are named; the others are counted.
const NAMED: usize = 6;
/// A part with at most this many characters is kept in full; a longer one as its hash.
const LONGEST: usize = 4096;

/// The parts by name, and the hash of them all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inputs(Map<String, Value>);

impl Inputs {
    /// Inputs of every stage: the numerics version and the kind of device.
    pub(super) fn on(device: &str) -> Self {
        let device: Value = device::backend(device).into();
        let parts = [("numerics", NUMERICS.into()), ("device", device)];
        Self(parts.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
    }

    /// Adds a part.
    pub(super) fn with(mut self, name: &str, value: &impl Serialize) -> Result<Self> {
        let value = serde_json::to_value(value).context("cannot hash the inputs of a stage")?;
        // Long lists, for example of image ids, are not kept in full.
        let text = value.to_string();
        let short = text.len() <= LONGEST;
        self.0.insert(name.to_owned(), if short { value } else { hash(text.as_bytes()).into() });
        Ok(self)
    }

    pub(crate) fn hash(&self) -> String {
        hash(Value::Object(self.0.clone()).to_string().as_bytes())
    }

    pub(crate) fn parts(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// The differences between two sets of parts, in words: `pretrain.epochs 1 -> 2, training images`.
pub(crate) fn difference(before: &Map<String, Value>, now: &Map<String, Value>) -> String {
    if before.is_empty() {
        return "an earlier version did not record its inputs".into();
    }
    let mut found = Vec::new();
    compare("", &Value::Object(before.clone()), &Value::Object(now.clone()), &mut found);
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    let mut text = found.join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}

fn compare(path: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    if before == now {
        return;
    }
    if let (Value::Object(a), Value::Object(b)) = (before, now) {
        let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let [a, b] = [a, b].map(|map| map.get(key).unwrap_or(&Value::Null));
            compare(&inner, a, b, found);
        }
        return;
    }
    // Hashes and lists of ids are not shown.
    let short = |value: &Value| match value {
        Value::Null => Some("unset".to_owned()),
        Value::String(text) if text.len() > 24 => None,
        Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    };
    found.push(match (short(before), short(now)) {
        (Some(a), Some(b)) => format!("{path} {a} -> {b}"),
        _ => path.to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn field_f14_a_difference_names_the_keys_and_short_values() {
        let parts = |value: Value| value.as_object().unwrap().clone();
        let hash = |c: char| String::from_iter([c; 64]);
        let before = parts(json!({
            "pretrain": { "epochs": 1, "method": { "kind": "msf" } }, "training images": hash('a'), "seed": 1
        }));
        let mut now = before.clone();
        assert_eq!(difference(&before, &now), "");
        now["pretrain"]["epochs"] = json!(2);
        now["pretrain"]["method"]["dim"] = json!(8);
        now["training images"] = json!(hash('b'));
        let words = "pretrain.epochs 1 -> 2, pretrain.method.dim unset -> 8, training images";
        assert_eq!(difference(&before, &now), words);
        assert!(difference(&Map::new(), &now).contains("earlier version"));
    }
}
