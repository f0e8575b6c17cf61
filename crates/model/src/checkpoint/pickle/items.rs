//! The values in a pickle, and the reasons why it cannot be read.

/// Largest number of containers and objects in one pickle.
pub(super) const NODES: usize = 1 << 22;

/// The reason why this reader does not support a pickle.
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

/// A range of bytes in the file.
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
    /// A reference to data outside the pickle, by its id.
    Persistent(Item),
    Call(Box<Call>),
}

/// A call of a class or function, recorded but not run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub callable: Item,
    pub args: Item,
    /// Whether it creates an object by `cls.__new__`.
    pub new: bool,
    /// The items appended to its result.
    pub items: Vec<Item>,
    /// The entries set in its result by key.
    pub entries: Vec<(Item, Item)>,
    /// The value that sets the attributes of its result.
    pub state: Item,
}
