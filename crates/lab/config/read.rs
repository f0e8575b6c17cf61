//! Reads a checked type from a tree of values with serde. An error names the innermost value that does not fit.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use toml::Value;

use super::tree::{KeyPath, Node, Tree};

/// Why a tree cannot be read as a type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mismatch {
    /// The value at fault; for a missing key, the table that lacks it.
    pub path: KeyPath,
    pub why: Why,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Why {
    /// It is of another type, or its number is out of the type's range: the found and the expected type, in serde's
    /// words.
    Type(String, String),
    /// A list whose length is not this.
    Length(String),
    /// It is none of these names.
    Name(&'static [&'static str]),
    /// It is a name where a table belongs whose `kind` is one of these, and the name is none of them.
    Kind(&'static [&'static str]),
    /// This key is unknown; these are known.
    UnknownKey(String, &'static [&'static str]),
    /// This key is missing.
    Missing(&'static str),
    /// A message of the type itself.
    Other(String),
}

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

impl Mismatch {
    fn here(why: Why) -> Self {
        Self { path: Vec::new(), why }
    }

    /// Prefixes the path with `step`, the key or index of the value in its table or list.
    fn under(mut self, step: impl ToString) -> Self {
        self.path.insert(0, step.to_string());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", super::tree::dotted(&self.path), self.why)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::here(Why::Other(message.to_string()))
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::here(Why::Type(found.to_string(), expected.to_string()))
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::here(Why::Length(expected.to_string()))
    }
    fn unknown_variant(_: &str, allowed: &'static [&'static str]) -> Self {
        Self::here(Why::Name(allowed))
    }
    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::here(Why::UnknownKey(key.to_owned(), known))
    }
    fn missing_field(key: &'static str) -> Self {
        Self::here(Why::Missing(key))
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.tree {
            Tree::Table(table) => visitor.visit_map(Entries { rest: table.iter(), value: None }),
            Tree::Array(items) => visitor.visit_seq(Items { rest: items.iter().enumerate() }),
            Tree::Leaf(Value::String(text)) => visitor.visit_borrowed_str(text),
            Tree::Leaf(Value::Integer(number)) => visitor.visit_i64(*number),
            Tree::Leaf(Value::Float(number)) => visitor.visit_f64(*number),
            Tree::Leaf(Value::Boolean(flag)) => visitor.visit_bool(*flag),
            // Never reached: dates, the only other leaves, are refused when the tree is parsed.
            Tree::Leaf(_) => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match &self.tree {
            Tree::Array(items) if items.len() != length => {
                Err(<Mismatch as de::Error>::invalid_length(items.len(), &visitor))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match &self.tree {
            Tree::Leaf(Value::String(name)) => {
                let name: StrDeserializer<'_, Mismatch> = name.as_str().into_deserializer();
                visitor.visit_enum(name)
            }
            Tree::Table(table) if table.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries {
                    rest: table.iter(),
                    value: None,
                }))
            }
            _ => Err(Mismatch::here(Why::Name(names))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple_struct map struct identifier ignored_any
    }
}

/// The entries of a table.
struct Entries<'a> {
    rest: std::collections::btree_map::Iter<'a, String, Node>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mismatch> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key, value));
        let key: StrDeserializer<'_, Mismatch> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        match self.value.take() {
            Some((key, value)) => seed.deserialize(value).map_err(|wrong| wrong.under(key)),
            None => Err(de::Error::custom("a value without its key")),
        }
    }
}

/// The items of a list.
struct Items<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some((i, item)) = self.rest.next() else { return Ok(None) };
        seed.deserialize(item).map(Some).map_err(|wrong| wrong.under(i))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
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
