//! Configs as tables of TOML, before they become checked types: `extends`, `--set`, and errors that point at the line.

use std::path::{Path, PathBuf};

use toml::de::DeTable;
use toml::{Table, Value};

/// A config that cannot run; the process ends with status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

impl ConfigError {
    /// Points `message`, which starts with the key it is about, at the key's line in `path`.
    pub fn at(path: &Path, message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        let key = message.split([' ', '=']).next().unwrap_or_default();
        let line = std::fs::read_to_string(path).ok().and_then(|text| line_of(&text, key));
        match line {
            Some(line) => Self(format!("{}:{line}: {message}", path.display())),
            None => Self(format!("{}: {message}", path.display())),
        }
    }
}

pub(crate) fn read_text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|e| ConfigError(format!("cannot read {}: {e}", path.display())))
}

pub(crate) fn toml_error(path: &Path, error: &toml::de::Error) -> ConfigError {
    ConfigError(format!("{}: {}", path.display(), error.to_string().trim_end()))
}

/// Configs may extend each other this deep; deeper is a loop.
const MAX_EXTENDS: usize = 8;

/// The table of `path` over the one it extends (`extends` is relative to the file).
pub(crate) fn read_table(path: &Path, depth: usize) -> Result<Table, ConfigError> {
    let mut table: Table = toml::from_str(&read_text(path)?).map_err(|e| toml_error(path, &e))?;
    let Some(base) = table.remove("extends") else { return Ok(table) };
    let Some(base) = base.as_str() else {
        return Err(ConfigError::at(path, format!("extends = {base} is no path")));
    };
    if depth == MAX_EXTENDS {
        return Err(ConfigError::at(path, "extends goes round in a circle"));
    }
    let base: PathBuf = path.parent().unwrap_or(Path::new(".")).join(base);
    let mut merged = read_table(&base, depth + 1)?;
    merge(&mut merged, table);
    Ok(merged)
}

/// Puts `over` on top of `base`. Tables merge key by key, except that a table of another `kind`
/// replaces the old one whole: the keys of one kind mean nothing to another.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new))
                if new.get("kind").is_none_or(|kind| old.get("kind") == Some(kind)) =>
            {
                merge(old, new);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Applies `a.b.c=value`; the value is TOML, or else a string.
pub(crate) fn apply_set(table: &mut Table, set: &str) -> Result<(), ConfigError> {
    let wrong = || ConfigError(format!("--set {set} is no assignment: expected KEY.PATH=VALUE"));
    let (path, value) = set.split_once('=').ok_or_else(wrong)?;
    let (path, value) = (path.trim(), value.trim());
    let value = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| Value::String(value.into()));
    if path.is_empty() || path.ends_with('.') {
        return Err(wrong());
    }
    assign(table, path, value)
}

/// Sets the dotted `path` to `value`.
pub(crate) fn assign(table: &mut Table, path: &str, value: Value) -> Result<(), ConfigError> {
    let (keys, last) = path.rsplit_once('.').unwrap_or(("", path));
    let keys = keys.split('.').filter(|key| !key.is_empty());
    let mut at = table;
    for key in keys {
        let next = at.entry(key.to_owned()).or_insert_with(|| Value::Table(Table::new()));
        at = next
            .as_table_mut()
            .ok_or_else(|| ConfigError(format!("{path}: {key} is a value, not a table")))?;
    }
    at.insert(last.into(), value);
    Ok(())
}

/// The line (from 1) of the dotted `key` in a TOML text.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut start = None;
    for part in key.split('.') {
        let Some((name, value)) = table.get_key_value(part) else { break };
        start = Some(name.span().start);
        match value.get_ref().as_table() {
            Some(inner) => table = inner,
            None => break,
        }
    }
    Some(text[..start?].matches('\n').count() + 1)
}
