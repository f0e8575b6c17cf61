//! A pickle as data: the stack machine of CPython's `pickle` for protocols 0 to 5, without calling anything.
//!
//! The result is a graph. An object that Python would create by a call (of some class, or a tensor) is a [`Call`]
//! that names the callable and holds its arguments. Nodes refer to each other by number, so shared and cyclic values
//! cost no more than in the file. Texts and bytes stay in the file and are referred to by position.

mod items;
mod machine;

pub(super) use self::items::{Call, Item, Node, Span};
use self::items::{PickleError, Result};
use self::machine::Machine;

/// A pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub root: Item,
    pub nodes: Vec<Node>,
    /// Position of the first byte after it.
    pub end: usize,
}

/// Reads the pickle that begins at position `at` of `bytes`.
///
/// # Errors
/// A [`PickleError`] if it is truncated, damaged or too large.
pub(super) fn read(bytes: &[u8], at: usize) -> Result<Pickle, PickleError> {
    if bytes.len() > u32::MAX as usize && at > u32::MAX as usize / 2 {
        return Err(PickleError::Limit { limit: u32::MAX as usize / 2, what: "bytes before it" });
    }
    let mut machine = Machine::new(bytes, at);
    let root = machine.run()?;
    Ok(Pickle { root, nodes: machine.nodes, end: machine.at })
}
