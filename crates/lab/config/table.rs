//! Configs before they become checked types: `--set`, and where each value was written.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::error::{ConfigError, with_note};
use super::fields::Wrong;
use super::layers::{drop_other_length, layers, read_text};
use super::message::{as_written, mismatch, named};
use super::read;
use super::tree::{Node, Origin, Tree, dotted, steps};

/// A config file merged over those it extends, with the overrides of the command line.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    root: Node,
    path: Arc<Path>,
    /// Appended to every message, for example the name of a run.
    note: Option<String>,
}

impl Document {
    /// Reads `path` and the files that it extends, and applies `sets` (`KEY=VALUE`).
    ///
    /// # Errors
    /// [`ConfigError`] that names the file and line, or the override.
    pub(crate) fn open(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        let root = layers(path, read_text(path)?, &mut Vec::new())?;
        let mut document = Self { root, path: path.into(), note: None };
        sets.iter().try_for_each(|set| document.set(set))?;
        Ok(document)
    }

    /// Reads `path` alone.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn one_file(path: &Path) -> Result<Self, ConfigError> {
        Self::of_text(path, &read_text(path)?)
    }

    /// The config in `text`, the contents of `path`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn of_text(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Ok(Self { root: Node::parse(path, text)?, path: path.into(), note: None })
    }

    /// A config without TOML text, from values at dotted keys.
    ///
    /// # Errors
    /// A part of a key is not a table.
    pub(crate) fn of_values(
        path: &Path,
        values: impl IntoIterator<Item = (&'static str, Node)>,
    ) -> Result<Self, ConfigError> {
        let path: Arc<Path> = path.into();
        let root = Node::table(Origin::File(path.clone(), 1));
        let mut document = Self { root, path, note: None };
        for (key, node) in values {
            document.assign(key, node)?;
        }
        Ok(document)
    }

    /// The value at a path of keys and indices.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        let path: Vec<String> = path.iter().map(|step| step.to_string()).collect();
        self.root.at(&path)
    }

    /// Whether the top-level key `key` is a list.
    fn is_list(&self, key: &str) -> bool {
        matches!(self.at(&[key]), Some(Node { tree: Tree::Array(_), .. }))
    }

    /// Appends `note` to every message about this config.
    pub(crate) fn with_note(self, note: String) -> Self {
        Self { note: Some(note), ..self }
    }

    /// Applies `a.b.c=value`; the value is TOML, or else a string.
    ///
    /// # Errors
    /// It is not an assignment, or a part of its key is not a table.
    pub(crate) fn set(&mut self, set: &str) -> Result<(), ConfigError> {
        let wrong = || ConfigError(format!("invalid --set {set}: expected KEY=VALUE"));
        let (key, value) = set.split_once('=').ok_or_else(wrong)?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').any(|step| step.trim().is_empty()) {
            return Err(wrong());
        }
        let node = Node::parse_set(key, value, &Origin::Set(set.into()))?;
        self.assign(key, node)
    }

    /// Sets the dotted `key`.
    ///
    /// # Errors
    /// A part of the key is not a table.
    pub(crate) fn assign(&mut self, key: &str, node: Node) -> Result<(), ConfigError> {
        let steps: Vec<&str> = key.split('.').map(str::trim).collect();
        let Some((last, tables)) = steps.split_last() else { return Ok(()) };
        let mut at = &mut self.root;
        for (i, step) in tables.iter().enumerate() {
            let origin = node.origin.clone();
            let list = matches!(at.tree, Tree::Array(_));
            let Tree::Table(table) = &mut at.tree else {
                return Err(not_a_table(&node, key, (&tables[..i], list), self.note.as_deref()));
            };
            at = table.entry(step.to_string()).or_insert_with(|| Node::table(origin));
        }
        let list = matches!(at.tree, Tree::Array(_));
        let Tree::Table(table) = &mut at.tree else {
            return Err(not_a_table(&node, key, (tables, list), self.note.as_deref()));
        };
        drop_other_length(table, last);
        table.insert(last.to_string(), node);
        Ok(())
    }

    /// Removes the dotted `key`, if it is present.
    pub(crate) fn remove(&mut self, key: &str) {
        self.root.remove(&steps(key));
    }

    /// Reads the config as a `T`.
    ///
    /// # Errors
    /// Names the value that does not fit, where it was written, and what is allowed.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        read::read(&self.root).map_err(|found| {
            let path = named(&self.root, &found).unwrap_or_else(|| found.path.clone());
            self.at_path(&path, &mismatch(&self.root, &found))
        })
    }

    /// The error `wrong`, with the place where the value of its key was written.
    pub(crate) fn wrong(&self, wrong: impl Into<Wrong>) -> ConfigError {
        let Wrong { key, message, .. } = wrong.into();
        self.at_path(&key.as_deref().map_or(Vec::new(), steps), &message)
    }

    /// The error `message` about the value of `key`; it need not begin with the key.
    pub(crate) fn at_key(&self, key: &str, message: &str) -> ConfigError {
        self.at_path(&steps(key), message)
    }

    /// The error `message` about the value at `path`.
    fn at_path(&self, path: &[String], message: &str) -> ConfigError {
        let file = self.path.display();
        let note = self.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        // For an absent key, the table that would contain it.
        let around = || (1..path.len()).rev().find_map(|n| self.root.at(&path[..n]));
        let there = if path.is_empty() { None } else { self.root.at(path) };
        let placed = match there {
            Some(node) => format!("{}: {}", node.origin, as_written(message, &dotted(path), node)),
            None if !path.is_empty() && message.starts_with(&format!("{} = ", dotted(path))) => {
                with_note(message, &format!(" (default; set it in {file})"))
            }
            None => match around() {
                Some(node) => format!("{}: {message}", node.origin),
                None => format!("{file}: {message}"),
            },
        };
        ConfigError(format!("{placed}{note}"))
    }
}

/// The error for a value at `path`, a `list` or a single value, that has no keys.
fn not_a_table(
    node: &Node,
    key: &str,
    (path, list): (&[&str], bool),
    note: Option<&str>,
) -> ConfigError {
    let note = note.map_or(String::new(), |note| format!(" ({note})"));
    let path = path.join(".");
    let what = match list {
        true => format!("{path} is a list: set it as a whole ({path}=[...])"),
        false => format!("{path} is not a table"),
    };
    ConfigError(format!("{}: {key}: {what}{note}", node.origin))
}

/// Where the values of a checked config were written. It does not affect a run, so any two are equal.
#[derive(Clone, Default)]
pub struct Source(Option<Arc<Document>>);

impl Source {
    /// Whether the top-level key `key` was written as a list.
    pub(crate) fn is_list(&self, key: &str) -> bool {
        self.0.as_ref().is_some_and(|document| document.is_list(key))
    }

    /// The error `wrong`, with the place where the value of its key was written.
    pub(crate) fn wrong(&self, wrong: impl Into<Wrong>) -> ConfigError {
        let wrong = wrong.into();
        match &self.0 {
            Some(document) => document.wrong(wrong),
            None => ConfigError(wrong.message),
        }
    }

    /// The config error for `error`: about the value of `key`, unless `error` is about another key.
    pub(crate) fn wrong_about(&self, key: &str, error: &anyhow::Error) -> ConfigError {
        let about = |text: String| Wrong::about(key, format!("{key}: {text}"));
        self.wrong(match Wrong::in_chain(error) {
            Some((_, wrong)) if wrong.key.is_some() => wrong,
            Some((_, wrong)) => about(wrong.message),
            None => about(format!("{error:#}")),
        })
    }

    /// An error of a run: if a config field caused it, with the field's key in the file; if its message shows the
    /// value of that key, a [`ConfigError`] that says where the value was written.
    pub(crate) fn locate(&self, error: anyhow::Error) -> anyhow::Error {
        if error.chain().any(|cause| cause.is::<ConfigError>()) {
            return error;
        }
        let Some((before, wrong)) = Wrong::in_chain(&error) else { return error };
        let texts: Vec<String> = error.chain().take(before).map(ToString::to_string).collect();
        let cause = match wrong.shows_value() {
            true => anyhow::Error::new(self.wrong(wrong)),
            false => anyhow::Error::msg(wrong.message),
        };
        texts.into_iter().rev().fold(cause, anyhow::Error::context)
    }
}

impl From<Document> for Source {
    fn from(document: Document) -> Self {
        Self(Some(Arc::new(document)))
    }
}

impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?})", self.0.as_ref().map(|document| &document.path))
    }
}
