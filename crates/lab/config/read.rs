//! Reads a checked type from a tree of values with serde. An error names the innermost value that does not fit.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use toml::Value;

use super::mismatch::{Mismatch, Why};
use super::tree::{KeyPath, Node, Tree};

/// Reads a `T` from `root`.
///
/// # Errors
/// Names the value that does not fit.
pub(crate) fn read<T: DeserializeOwned>(root: &Node) -> Result<T, Mismatch> {
    T::deserialize(root).map_err(|found| unknown_kind::<T>(root, narrow::<T>(root, found)))
}

/// The error `found` about a name that stands where a table belongs: if a table of this kind does not fit either, the
/// kinds that do. Reads again with such a table.
fn unknown_kind<T: DeserializeOwned>(root: &Node, found: Mismatch) -> Mismatch {
    let Mismatch { path, why: Why::Type(_, expected) } = &found else { return found };
    let is_name = |node: &Node| matches!(node.tree, Tree::Leaf(Value::String(_)));
    if !expected.contains("tagged enum ") || !root.at(path).is_some_and(is_name) {
        return found;
    }
    let mut tabled = root.clone();
    let Some(node) = tabled.at_mut(path) else { return found };
    node.tree = Tree::Table(BTreeMap::from([("kind".to_owned(), node.clone())]));
    match T::deserialize(&tabled) {
        Err(Mismatch { path: at, why: Why::Name(kinds) })
            if path.starts_with(&at) || at.starts_with(path) =>
        {
            Mismatch { why: Why::Kind(kinds), ..found }
        }
        _ => found,
    }
}

/// Serde buffers enums that are tagged by a key: the path of an error ends at their table. Finds the innermost value
/// at fault by reading again with fewer values: values are read in order, and reading stops at the first that does
/// not fit.
fn narrow<T: DeserializeOwned>(root: &Node, found: Mismatch) -> Mismatch {
    let mut path = found.path.clone();
    'deeper: while let Some(node) = root.at(&path) {
        if let (Why::UnknownKey(key, _), Tree::Table(table)) = (&found.why, &node.tree)
            && table.contains_key(key)
        {
            path.push(key.clone());
            break;
        }
        if let Why::Missing(key) = found.why {
            path = lacking::<T>(root, &found, key, &path).unwrap_or(path);
            break;
        }
        let mut trimmed = root.clone();
        let mut same = |tree: Tree| {
            if let Some(at) = trimmed.at_mut(&path) {
                at.tree = tree;
            }
            T::deserialize(&trimmed).err().as_ref() == Some(&found)
        };
        match &node.tree {
            Tree::Leaf(_) => break,
            Tree::Table(table) => {
                let (kind, others): (Vec<_>, Vec<_>) =
                    table.iter().partition(|(key, _)| *key == "kind");
                let own = |(key, node): (&String, &Node)| (key.clone(), node.clone());
                let mut some: BTreeMap<String, Node> = kind.into_iter().map(own).collect();
                if same(Tree::Table(some.clone())) {
                    break;
                }
                for (key, node) in others {
                    some.insert(key.clone(), node.clone());
                    if same(Tree::Table(some.clone())) {
                        path.push(key.clone());
                        continue 'deeper;
                    }
                }
                break;
            }
            Tree::Array(items) if !matches!(found.why, Why::Other(_)) => {
                for i in 0..items.len() {
                    if same(Tree::Array(items[..i].to_vec())) {
                        break 'deeper;
                    }
                    if same(Tree::Array(items[..=i].to_vec())) {
                        path.push(i.to_string());
                        continue 'deeper;
                    }
                }
                break;
            }
            Tree::Array(_) => break,
        }
    }
    Mismatch { path, why: found.why }
}

/// The table at `path` or below that lacks `key`: the one where adding the key removes or changes the error.
fn lacking<T: DeserializeOwned>(
    root: &Node,
    found: &Mismatch,
    key: &str,
    path: &[String],
) -> Option<KeyPath> {
    let node = root.at(path)?;
    let below: Vec<String> = match &node.tree {
        Tree::Leaf(_) => return None,
        Tree::Array(items) => (0..items.len()).map(|i| i.to_string()).collect(),
        Tree::Table(table) => {
            let mut mended = root.clone();
            if let Some(Node { tree: Tree::Table(table), origin }) = mended.at_mut(path) {
                let any = Node { origin: origin.clone(), tree: Tree::Leaf(Value::Boolean(true)) };
                table.entry(key.to_owned()).or_insert(any);
            }
            let other = T::deserialize(&mended).err();
            let unknown = |other: &Mismatch| matches!(&other.why, Why::UnknownKey(unknown, _) if unknown == key);
            if other.as_ref() != Some(found) && !other.as_ref().is_some_and(unknown) {
                return Some(path.to_vec());
            }
            table.keys().cloned().collect()
        }
    };
    below.into_iter().find_map(|step| lacking::<T>(root, found, key, &[path, &[step]].concat()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::super::tree::dotted;
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        number: Option<f64>,
        pair: Option<(f64, f64)>,
        mode: Option<Mode>,
        shape: Option<Shape>,
        shapes: Option<Vec<Shape>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        On,
        Off,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
    enum Shape {
        Round {
            radius: u32,
            #[serde(default)]
            holes: Vec<u32>,
        },
        Square(Square),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Square {
        a: u32,
        b: u32,
        mode: Option<Mode>,
        size: Option<Size>,
        inner: Option<Box<Shape>>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged, expecting = "pixels or a share")]
    enum Size {
        Pixels(u32),
        Share(f64),
    }

    fn of(text: &str) -> Result<File, Mismatch> {
        read(&Node::parse(Path::new("x.toml"), text).unwrap())
    }

    #[test]
    fn what_fits_is_read() {
        let text = "number = 1\npair = [0, 0.5]\nmode = \"on\"\nshape = { kind = \"square\", a = 1, b = 2, size = 3 }";
        let file = of(text).unwrap();
        assert_eq!(
            (file.number, file.pair, file.mode),
            (Some(1.0), Some((0.0, 0.5)), Some(Mode::On))
        );
        let size = Some(Size::Pixels(3));
        let square = Square { a: 1, b: 2, mode: None, size, inner: None };
        assert_eq!(file.shape, Some(Shape::Square(square)));
    }

    #[test]
    fn the_innermost_value_is_to_blame() {
        for (text, path) in [
            ("number = \"x\"", "number"),
            ("number = {}", "number"),
            ("pair = [1]", "pair"),
            ("pair = [1, 2, 3]", "pair"),
            ("pair = [1, \"x\"]", "pair[1]"),
            ("mode = \"no\"", "mode"),
            ("mode = 3", "mode"),
            ("nothing = 3", "nothing"),
            ("shape = 3", "shape"),
            ("shape = { kind = \"no\" }", "shape.kind"),
            ("shape = { kind = 3 }", "shape.kind"),
            ("shape = { radius = 3 }", "shape"),
            ("shape = { kind = \"round\" }", "shape"),
            ("shape = { kind = \"round\", radius = \"x\" }", "shape.radius"),
            ("shape = { kind = \"round\", radius = -1 }", "shape.radius"),
            ("shape = { kind = \"round\", radius = 1, holes = [1, -1] }", "shape.holes[1]"),
            ("shape = { kind = \"round\", radius = 1, hole = 1 }", "shape.hole"),
            // Both are wrong in the same way: the first in key order is named.
            ("shape = { kind = \"square\", b = \"x\", a = \"x\" }", "shape.a"),
            ("shape = { kind = \"square\", a = 1, b = \"x\" }", "shape.b"),
            ("shape = { kind = \"square\", a = 1, b = 1, mode = \"no\" }", "shape.mode"),
            ("shape = { kind = \"square\", a = 1, b = 1, size = \"no\" }", "shape.size"),
            (
                "shape = { kind = \"square\", a = 1, b = 1, inner = { kind = \"round\", radius = -1 } }",
                "shape.inner.radius",
            ),
            (
                "shape = { kind = \"square\", a = 1, b = 1, inner = { kind = \"round\", r = 1 } }",
                "shape.inner.r",
            ),
            (
                "shape = { kind = \"square\", a = 1, b = 1, inner = { kind = \"round\" } }",
                "shape.inner",
            ),
            ("shape = { kind = \"square\", a = 1 }", "shape"),
            (
                "shapes = [{ kind = \"round\", radius = 1 }, { kind = \"round\", radius = true }]",
                "shapes[1].radius",
            ),
            (
                "[[shapes]]\nkind = \"round\"\nradius = 1\n[[shapes]]\nkind = \"no\"",
                "shapes[1].kind",
            ),
        ] {
            let found = of(text).unwrap_err();
            assert_eq!(dotted(&found.path), path, "{text}: {found:?}");
        }
    }
}
