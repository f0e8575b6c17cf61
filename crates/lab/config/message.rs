//! Messages about wrong values of a config.

use toml::Value;

use super::error::OUT_OF_RANGE;
use super::mismatch::{Mismatch, Why};
use super::nearest::nearest;
use super::tree::{KeyPath, Node, Tree, dotted, steps};

/// Shows a number in `message`, `KEY = VALUE is out of range …`, as it was written: 1e300, not its 300 digits.
pub(crate) fn as_written(message: &str, key: &str, node: &Node) -> String {
    let number = matches!(&node.tree, Tree::Leaf(Value::Integer(_) | Value::Float(_)));
    match message.split_once(OUT_OF_RANGE) {
        Some((value, rest)) if number && value.starts_with(&format!("{key} = ")) => {
            format!("{key} = {}{OUT_OF_RANGE}{rest}", node.shown())
        }
        _ => message.to_owned(),
    }
}

/// The message about a value of `root` that does not fit; it begins with the key.
pub(crate) fn mismatch(root: &Node, found: &Mismatch) -> String {
    let Mismatch { path, why } = found;
    if let (Why::Other(text), Some(path)) = (why, named(root, found)) {
        let value = text.split_once(" = ").map_or("", |(_, value)| value);
        return format!("{} = {value}", dotted(&path));
    }
    let key = dotted(path);
    let node = root.at(path);
    let is = match node.map(|node| &node.tree) {
        Some(Tree::Table(_)) => format!("{key} is a table"),
        Some(_) => format!("{key} = {}", node.map_or(String::new(), Node::shown)),
        None => key.clone(),
    };
    match why {
        Why::Type(_, expected) | Why::Length(expected) => {
            format!("{is}: expected {}{}", plain(expected), form(expected, node))
        }
        Why::Name(allowed) => format!("{is}: allowed are {}", list(allowed, "\"")),
        Why::Kind(kinds) => {
            format!("{is}: expected a table whose kind is one of {}", list(kinds, "\""))
        }
        Why::UnknownKey(unknown, known) => {
            let near = nearest(unknown, known.iter());
            let hint = near.map_or(String::new(), |near| format!(", did you mean {near}?"));
            let known = match known {
                [] => "no other key is allowed".to_owned(),
                known => format!("allowed are {}", list(known, "")),
            };
            let why = if hint.is_empty() { of_kind(root, path) + ";" } else { hint };
            format!("{key}: unknown key{why} {known}")
        }
        Why::Missing(missing) => {
            let dot = if key.is_empty() { "" } else { "." };
            format!("{key}{dot}{missing} is missing")
        }
        Why::Other(text) if text.starts_with("data did not match any variant") => {
            format!("{is}: not one of the allowed forms")
        }
        Why::Other(text) => format!("{is}: {text}"),
    }
}

/// The kind of the table that holds the value, which decides on its keys, in words; empty for a table without a kind, and
/// for one whose unknown key is `kind`.
fn of_kind(root: &Node, path: &[String]) -> String {
    let [table @ .., key] = path else { return String::new() };
    let beside = [table, &["kind".to_owned()]].concat();
    let kind = root.at(&beside).filter(|_| key != "kind");
    kind.map_or(String::new(), |kind| format!(" for kind = {}", kind.shown()))
}

/// The path of the wrong value, if its type names the field in the error (`FIELD = VALUE …`). Serde keeps only the
/// text of such an error.
pub(crate) fn named(root: &Node, found: &Mismatch) -> Option<KeyPath> {
    let Why::Other(text) = &found.why else { return None };
    let field = steps(text.split_once(" = ")?.0);
    let tables = (0..=found.path.len()).rev().map(|n| &found.path[..n]);
    tables.map(|table| [table, &field].concat()).find(|path| root.at(path).is_some())
}

/// An example of a table with a `kind`, for a config that gives only the kind, as a string.
fn form(expected: &str, node: Option<&Node>) -> String {
    match node.map(|node| &node.tree) {
        Some(Tree::Leaf(Value::String(kind))) if expected.contains("tagged enum ") => {
            format!(", such as {{ kind = \"{kind}\" }}")
        }
        _ => String::new(),
    }
}

/// Serde's expected type, in the terms of a config.
fn plain(expected: &str) -> String {
    let of = |prefix: &str| expected.strip_prefix(prefix);
    if let Some(count) = of("a tuple of size ").or_else(|| of("an array of length ")) {
        return format!("a list of {count} values");
    }
    match expected {
        "u32" => "a whole number, 0 to 2^32 - 1",
        "u8" => "a whole number, 0 to 255",
        "u16" | "u64" | "u128" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "i128" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "a string" | "string or map" | "map with a single key" | "variant identifier" => "a string",
        "path string" => "a path, as a string",
        other if other.starts_with("struct ") || other.contains("tagged enum ") => "a table",
        other if ["enum", "struct", "variant"].iter().any(|word| other.contains(word)) => {
            "a value of another kind"
        }
        other => other,
    }
    .to_owned()
}

fn list(names: &[&str], quote: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{quote}{name}{quote}")).collect();
    quoted.join(", ")
}
