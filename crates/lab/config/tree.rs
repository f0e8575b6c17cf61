//! A config as a tree of values, each with the place where it was written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// Longest value that a message shows, in characters.
const SHOWN: usize = 80;

/// The tables of which a config may have several.
const LISTS: [&str; 2] = ["defend", "axis"];

/// The table of [`LISTS`] whose head, `[TABLE]` or `[[TABLE]]`, is at byte `at` of `text`.
fn repeated(text: &str, at: usize) -> Option<&'static str> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let head = text[start..].lines().next()?.trim();
    let name = head.strip_prefix('[')?.trim_matches(['[', ']', ' ']);
    LISTS.into_iter().find(|list| *list == name)
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A line of a file, from 1.
    File(Arc<Path>, usize),
    /// An override of the command line, as `KEY=VALUE`.
    Set(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Set(set) => write!(f, "--set {set}"),
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub origin: Origin,
    pub tree: Tree,
}

/// The contents of a value.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    /// Neither a table nor an array.
    Leaf(Value),
    Array(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// Steps from the root of a tree to one of its values: keys, and indices of arrays in decimal.
pub(crate) type KeyPath = Vec<String>;

/// The steps as users write them: `probe.labels[1]`.
pub(crate) fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        if step.parse::<usize>().is_ok() && !text.is_empty() {
            text.push_str(&format!("[{step}]"));
        } else {
            let dot = if text.is_empty() { "" } else { "." };
            text.push_str(&format!("{dot}{step}"));
        }
    }
    text
}

/// The steps of a dotted key.
pub(crate) fn steps(key: &str) -> KeyPath {
    key.split(['.', '[']).map(|step| step.trim_end_matches(']').to_owned()).collect()
}

impl Node {
    /// A string that was not parsed from a file.
    pub(crate) fn text(text: &str, origin: Origin) -> Self {
        Self { origin, tree: Tree::Leaf(Value::String(text.to_owned())) }
    }

    /// An empty table.
    pub(crate) fn table(origin: Origin) -> Self {
        Self { origin, tree: Tree::Table(BTreeMap::new()) }
    }

    /// The tree of a TOML file.
    ///
    /// # Errors
    /// The syntax is wrong, or a value is a date or a number that no key accepts.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        // The byte-order mark that some editors write is not part of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = DeTable::parse(text).map_err(|error| {
            let twice = error.span().and_then(|span| repeated(text, span.start));
            let hint = twice.map_or(String::new(), |table| {
                format!("\nif there are several, write each as [[{table}]]")
            });
            ConfigError(format!("{}: {}{hint}", path.display(), error.to_string().trim_end()))
        })?;
        let path: Arc<Path> = path.into();
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let line = |at: usize| ends.partition_point(|&end| end < at) + 1;
        let origin = |at: usize| Origin::File(path.clone(), line(at));
        let root = of_table(root.get_ref(), origin(0), &origin, &mut Vec::new())?;
        Ok(root)
    }

    /// The value of `--set KEY=VALUE`: TOML, or else a string.
    ///
    /// # Errors
    /// The value is a date or a number that no key accepts.
    pub(crate) fn parse_set(key: &str, value: &str, origin: &Origin) -> Result<Self, ConfigError> {
        let text = format!("value = {value}");
        let Ok(root) = DeTable::parse(&text) else { return Ok(Self::text(value, origin.clone())) };
        let root = root.get_ref();
        match root.get("value") {
            Some(parsed) if root.len() == 1 => {
                of_value(parsed.get_ref(), origin.clone(), &|_| origin.clone(), &mut steps(key))
            }
            // A line break made it more than one assignment.
            _ => Ok(Self::text(value, origin.clone())),
        }
    }

    /// The value at `path`.
    pub(crate) fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match &node.tree {
            Tree::Table(table) => table.get(step),
            Tree::Array(items) => items.get(step.parse::<usize>().ok()?),
            Tree::Leaf(_) => None,
        })
    }

    /// As [`at`](Self::at).
    pub(crate) fn at_mut(&mut self, path: &[String]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, step| match &mut node.tree {
            Tree::Table(table) => table.get_mut(step),
            Tree::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
            Tree::Leaf(_) => None,
        })
    }

    /// Removes the value at `path` from its table, if it is there.
    pub(crate) fn remove(&mut self, path: &[String]) {
        if let Some((last, path)) = path.split_last()
            && let Some(Self { tree: Tree::Table(table), .. }) = self.at_mut(path)
        {
            table.remove(last);
        }
    }

    /// The text, if this is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.tree {
            Tree::Leaf(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The value as a message shows it: as TOML, at most [`SHOWN`] characters, numbers without long runs of zeros.
    pub(crate) fn shown(&self) -> String {
        let text = match &self.tree {
            Tree::Leaf(Value::Float(number))
                if !(1e-5..1e16).contains(&number.abs()) && *number != 0.0 =>
            {
                format!("{number:e}")
            }
            _ => self.value().to_string(),
        };
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    /// The value as TOML.
    pub(crate) fn value(&self) -> Value {
        match &self.tree {
            Tree::Leaf(value) => value.clone(),
            Tree::Array(items) => Value::Array(items.iter().map(Self::value).collect()),
            Tree::Table(table) => {
                Value::Table(table.iter().map(|(key, node)| (key.clone(), node.value())).collect())
            }
        }
    }
}

type OriginOf<'a> = dyn Fn(usize) -> Origin + 'a;

fn of_table(
    table: &DeTable<'_>,
    origin: Origin,
    at: &OriginOf<'_>,
    path: &mut KeyPath,
) -> Result<Node, ConfigError> {
    let mut nodes = BTreeMap::new();
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let node = of_value(value.get_ref(), at(key.span().start), at, path)?;
        path.pop();
        nodes.insert(key.get_ref().to_string(), node);
    }
    Ok(Node { origin, tree: Tree::Table(nodes) })
}

fn of_value(
    value: &DeValue<'_>,
    origin: Origin,
    at: &OriginOf<'_>,
    path: &mut KeyPath,
) -> Result<Node, ConfigError> {
    let wrong = |shown: &str, allowed: &str| {
        ConfigError(format!("{origin}: {} = {shown}: {allowed}", dotted(path)))
    };
    let leaf = match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(date) => {
            return Err(wrong(&date.to_string(), "no key accepts a date; write text in quotes"));
        }
        DeValue::Integer(number) => {
            let read = i64::from_str_radix(number.as_str(), number.radix());
            let allowed = "whole numbers must lie between -2^63 and 2^63 - 1";
            Value::Integer(read.map_err(|_| wrong(&number.to_string(), allowed))?)
        }
        DeValue::Float(number) => {
            let read = number.as_str().parse::<f64>().ok().filter(|read| read.is_finite());
            Value::Float(read.ok_or_else(|| wrong(&number.to_string(), "numbers must be finite"))?)
        }
        DeValue::Array(values) => {
            let mut items = Vec::new();
            for (i, value) in values.iter().enumerate() {
                path.push(i.to_string());
                items.push(of_value(value.get_ref(), at(value.span().start), at, path)?);
                path.pop();
            }
            return Ok(Node { origin, tree: Tree::Array(items) });
        }
        DeValue::Table(table) => return of_table(table, origin, at, path),
    };
    Ok(Node { origin, tree: Tree::Leaf(leaf) })
}
