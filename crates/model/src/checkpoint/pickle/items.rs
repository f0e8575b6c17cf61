//! What a pickle holds, and why it cannot be read.

/// Containers and objects in one pickle.
pub(super) const NODES: usize = 1 << 22;

/// Why bytes are not a pickle that this reader supports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PickleError {
    #[error("the pickle is truncated at byte {0}")]
    Truncated(usize),
    #[error("the pickle has an unknown instruction (0x{opcode:02x}) at byte {at}")]
    Opcode { opcode: u8, at: usize },
    #[error("the pickle is damaged at byte {at}: {reason}")]
    Damaged { at: usize, reason: &'static str },
    #[error("the pickle has more than {limit} {what}")]
    Limit { limit: usize, what: &'static str },
}

pub(super) type Result<T, E = PickleError> = std::result::Result<T, E>;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A value: a scalar, or the number of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Item {
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
pub(crate) enum Node {
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
pub(crate) struct Call {
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
