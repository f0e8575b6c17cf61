//! Deserialises a tree of values with serde.

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use toml::Value;

use super::mismatch::{Mismatch, Why};
use super::tree::{Node, Tree};

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
