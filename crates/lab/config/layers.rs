//! A config file and those that it extends, as one tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::home::expanded;
use super::nearest::{meant, nearest};
use super::tree::{KeyPath, Node, Tree, dotted, steps};
use crate::shell::path_word;

pub(crate) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let shown = path.display();
    if path.is_dir() {
        return Err(ConfigError(format!(
            "{shown} is a folder, where a config (a TOML file) is needed: `ssl-backdoor init --data {}` writes a config for a folder of images",
            path_word(path)
        )));
    }
    let bytes = std::fs::read(path).map_err(|e| {
        ConfigError(format!("cannot read {shown}: {e}{}", meant(path).unwrap_or_default()))
    })?;
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        ConfigError(format!("{shown}:{line}: not UTF-8 text"))
    })
}

/// The tree of `text`, the contents of `path`, merged over the file it extends (`extends` is relative to `path`)
/// without the keys that it removes (`unset`). `chain` holds the files that led here.
pub(crate) fn layers(
    path: &Path,
    text: String,
    chain: &mut Vec<PathBuf>,
) -> Result<Node, ConfigError> {
    let mut root = Node::parse(path, &text)?;
    chain.push(path.to_path_buf());
    let Tree::Table(table) = &mut root.tree else { return Ok(root) };
    let unset = table.remove("unset");
    let Some(extends) = table.remove("extends") else {
        return match unset {
            None => Ok(root),
            Some(unset) => Err(ConfigError(format!(
                "{}: unset needs extends: it lists keys of the config that this one extends",
                unset.origin
            ))),
        };
    };
    let Some(base) = extends.as_str() else {
        let message = format!("extends = {}: expected the path of a file", extends.shown());
        return Err(ConfigError(format!("{}: {message}", extends.origin)));
    };
    let file = path.parent().unwrap_or(Path::new("")).join(expanded(base));
    let same = |a: &Path| a == file || a.canonicalize().ok() == file.canonicalize().ok();
    let wrong = |reason: String| ConfigError(format!("{}: {reason}", extends.origin));
    let below = read_text(&file).map_err(|e| wrong(format!("extends = \"{base}\": {e}")))?;
    if let Some(start) = chain.iter().position(|earlier| same(earlier)) {
        let circle = chain[start..].iter().chain([&file]);
        let circle: Vec<String> = circle.map(|path| path.display().to_string()).collect();
        return Err(wrong(format!("extends is circular: {}", circle.join(" -> "))));
    }
    let mut merged = layers(&file, below, chain)?;
    if let Some(unset) = unset {
        remove_all(&mut merged, &unset, &file)?;
    }
    merge(&mut merged, root);
    Ok(merged)
}

/// Removes the dotted keys in the list `unset` from `base`, the tree of `file`.
///
/// # Errors
/// It is not a list of strings, or a key is not in `base` or is part of a list there.
fn remove_all(base: &mut Node, unset: &Node, file: &Path) -> Result<(), ConfigError> {
    let wrong = |what: &str, node: &Node, reason: &str| {
        ConfigError(format!("{}: {what} = {}: {reason}", node.origin, node.shown()))
    };
    let Tree::Array(items) = &unset.tree else {
        return Err(wrong("unset", unset, "expected a list of keys"));
    };
    let mut keys = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let wrong = |reason: &str| wrong(&format!("unset[{i}]"), item, reason);
        let key = item.as_str().ok_or_else(|| wrong("expected a key in quotes"))?;
        let path = steps(key);
        let is_list =
            |end: &usize| matches!(base.at(&path[..*end]), Some(Node { tree: Tree::Array(_), .. }));
        if let Some(end) = (1..path.len()).find(is_list) {
            let list = dotted(&path[..end]);
            return Err(wrong(&format!("{list} is a list: leave it out as a whole (\"{list}\")")));
        }
        if base.at(&path).is_none() {
            let near = similar_key(base, path);
            let hint = near.map_or(String::new(), |near| format!(", did you mean {near}?"));
            return Err(wrong(&format!("{} has no such key{hint}", file.display())));
        }
        keys.push(path);
    }
    keys.iter().for_each(|path| base.remove(path));
    Ok(())
}

/// The key most similar to that at `path` in the table where it would be.
fn similar_key(root: &Node, mut path: KeyPath) -> Option<String> {
    let last = path.pop()?;
    let Tree::Table(table) = &root.at(&path)?.tree else { return None };
    path.push(nearest(&last, table.keys())?.clone());
    Some(dotted(&path))
}

/// The keys of which a length has exactly one, where it is no number of pixels.
const LENGTHS: [&str; 2] = ["view", "share"];

/// Removes the length in another unit before `key` is set, if it is one of [`LENGTHS`].
pub(crate) fn drop_other_length(table: &mut BTreeMap<String, Node>, key: &str) {
    if LENGTHS.contains(&key) {
        table.retain(|other, _| other == key || !LENGTHS.contains(&other.as_str()));
    }
}

/// Merges `over` into `base`. Tables merge key by key, except that a table of another `kind` replaces the whole
/// table: the keys of one kind have no meaning for another. One of [`LENGTHS`] replaces the other.
fn merge(base: &mut Node, over: Node) {
    base.origin = over.origin.clone();
    let Tree::Table(new) = over.tree else {
        base.tree = over.tree;
        return;
    };
    let Tree::Table(old) = &mut base.tree else {
        base.tree = Tree::Table(new);
        return;
    };
    let kind = |node: Option<&Node>| node.map(Node::value);
    if new.contains_key("kind") && kind(new.get("kind")) != kind(old.get("kind")) {
        *old = new;
        return;
    }
    new.keys().for_each(|key| drop_other_length(old, key));
    for (key, value) in new {
        match old.get_mut(&key) {
            Some(below) => merge(below, value),
            None => {
                old.insert(key, value);
            }
        }
    }
}
