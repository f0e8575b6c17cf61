//! The keys of an INI config as Python's configparser reads them.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Keys that have not been used yet, with their values.
pub(super) struct Keys(BTreeMap<String, String>);

impl Keys {
    /// All keys of both sections, in lower case.
    ///
    /// # Errors
    /// Names the line.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        sections(text).map(Self)
    }

    /// Removes `key` if it is present.
    pub(super) fn skip(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// The value of `key`.
    pub(super) fn take(&mut self, key: &str) -> Result<String, String> {
        self.0.remove(key).ok_or_else(|| format!("{key} is missing"))
    }

    /// The value of `key`, a boolean.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool, String> {
        let value = self.take(key)?;
        match value.to_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => Ok(true),
            "0" | "no" | "false" | "off" => Ok(false),
            _ => Err(format!("{key} = {value}: allowed are true and false")),
        }
    }

    /// The value of `key`, a number.
    pub(super) fn number<T: FromStr>(&mut self, key: &str) -> Result<T, String> {
        let value = self.take(key)?;
        value.parse().map_err(|_| format!("{key} = {value} is not a number"))
    }

    /// Checks that no key is left.
    pub(super) fn end(&self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(key) => Err(format!("unknown key {key}")),
            None => Ok(()),
        }
    }
}

/// All keys of both sections.
fn sections(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut keys = BTreeMap::new();
    let mut section = None;
    // Editors on Windows put a byte-order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if !["experiment", "poison_generation"].contains(&name) {
                return Err(format!(
                    "line {number}: [{name}]: allowed are [experiment] and [poison_generation]"
                ));
            }
            section = Some(name);
            continue;
        }
        let Some((key, value)) = line.split_once(['=', ':']).filter(|_| section.is_some()) else {
            return Err(format!(
                "line {number}: expected [section], or KEY = VALUE within a section: {line}"
            ));
        };
        let (key, value) = (key.trim().to_lowercase(), value.trim());
        if let Some(at) = value.find([' ', '\t']).filter(|_| comment(value)) {
            return Err(format!(
                "line {number}: {key} = {value}: Python's configparser treats what follows {:?} as part of the value: \
                 put the comment on a separate line",
                &value[..at]
            ));
        }
        if keys.insert(key.clone(), value.to_owned()).is_some() {
            return Err(format!("line {number}: {key} is given twice"));
        }
    }
    Ok(keys)
}

/// Whether a value seems to contain a comment.
fn comment(value: &str) -> bool {
    [" #", " ;", "\t#", "\t;"].iter().any(|mark| value.contains(mark))
}
