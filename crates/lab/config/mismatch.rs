//! Why a value of a config does not fit its type.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::tree::{KeyPath, dotted};

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

impl Mismatch {
    pub fn here(why: Why) -> Self {
        Self { path: Vec::new(), why }
    }

    /// Prefixes the path with `step`, the key or index of the value in its table or list.
    pub fn under(mut self, step: impl ToString) -> Self {
        self.path.insert(0, step.to_string());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", dotted(&self.path), self.why)
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
