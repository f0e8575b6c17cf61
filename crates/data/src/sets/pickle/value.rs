//! The contents of a pickle of a data set.

/// A value of a pickle. It borrows strings and arrays from the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// `None`.
    None,
    /// An integer or a boolean.
    Int(i64),
    /// A byte string or text: keys are either, depending on the writer.
    Str(&'a [u8]),
    /// A list or a tuple.
    List(Vec<Value<'a>>),
    /// A dictionary with string keys; the last of equal keys counts.
    Dict(Vec<(&'a [u8], Value<'a>)>),
    /// An array of bytes, row by row.
    Array {
        /// Its sizes from the outermost; their product is the length of `bytes`.
        shape: Vec<usize>,
        /// The elements.
        bytes: &'a [u8],
    },
    /// A function or class, by its name alone.
    Global(Global),
    /// An array that has no elements yet, or the memo's placeholder for a container.
    NewArray,
    /// The type `uint8`.
    ByteType,
}

/// The names that a pickle of arrays may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    /// `numpy.core.multiarray._reconstruct`
    Reconstruct,
    /// `numpy.ndarray`
    Array,
    /// `numpy.dtype`
    Type,
}

/// Largest nesting depth of lists and dictionaries.
const MAX_DEPTH: usize = 8;

impl<'a> Value<'a> {
    /// The value of a dictionary's key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().rev().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
    }

    fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Dict(entries) => 1 + entries.iter().map(|(_, v)| v.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// Checks that the value may be put into another.
pub(super) fn shallow(value: &Value<'_>) -> Result<(), String> {
    if value.depth() < MAX_DEPTH { Ok(()) } else { Err("lists nested too deep".into()) }
}
