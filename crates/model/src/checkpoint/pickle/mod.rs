//! A pickle as data: the stack machine of CPython's `pickle` for protocols 0 to 5, without calling anything.
//!
//! The result is a graph. What Python would make by a call (an object of some class, a tensor) is a [`Call`] that
//! names the callable and holds its arguments. Nodes refer to each other by number, so shared and cyclic values cost
//! what they cost in the file. Texts and bytes stay in the file and are referred to by their place.

mod machine;

use self::machine::Machine;

/// Opcodes in one pickle: what a hostile file can make this reader do is proportional to this.
const OPCODES: usize = 1 << 23;
/// Containers and objects in one pickle.
const NODES: usize = 1 << 22;

/// Why bytes are no pickle that this reader knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PickleError {
    #[error("the pickle is truncated at byte {0}")]
    Truncated(usize),
    #[error("the pickle has an unknown instruction (0x{opcode:02x}) at byte {at}")]
    Opcode { opcode: u8, at: usize },
    #[error("the pickle is damaged at byte {at}: {reason}")]
    Damaged { at: usize, reason: &'static str },
    #[error("the pickle has more than {limit} {what}")]
    Limit { limit: usize, what: &'static str },
}

type Result<T, E = PickleError> = std::result::Result<T, E>;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A value: a scalar, or the number of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Span),
    Bytes(Span),
    /// A scalar that nothing here needs: an integer beyond 64 bits, an object of the extension registry.
    Opaque,
    Node(u32),
}

/// A value that holds others.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A class or function: module and name.
    Global(Span, Span),
    Tuple(Vec<Item>),
    /// A list, set or frozen set.
    List(Vec<Item>),
    Dict(Vec<(Item, Item)>),
    /// What stands for data outside the pickle, by its id.
    Persistent(Item),
    Call(Box<Call>),
}

/// What a class or function would give.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub callable: Item,
    pub args: Item,
    /// Is it a new object of a class, made by `cls.__new__`?
    pub new: bool,
    /// What was appended to it.
    pub items: Vec<Item>,
    /// What was set in it by key.
    pub entries: Vec<(Item, Item)>,
    /// What its attributes were set from.
    pub state: Item,
}

/// A pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub root: Item,
    pub nodes: Vec<Node>,
    /// Where the bytes behind it begin.
    pub end: usize,
}

/// Reads the pickle that begins at `at` of `bytes`.
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
