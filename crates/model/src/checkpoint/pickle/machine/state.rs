//! The state of the machine, and the operations that instructions share: taking bytes from the file and values from
//! the stack, and creating nodes.

use std::collections::HashMap;

use super::super::items::{Call, Item, NODES, Node, PickleError, Result, Span};

pub(crate) struct Machine<'a> {
    pub(super) bytes: &'a [u8],
    pub at: usize,
    pub(super) opcode_at: usize,
    pub(super) stack: Vec<Item>,
    /// Height of the stack at each mark.
    pub(super) marks: Vec<usize>,
    pub(super) memo: HashMap<u32, Item>,
    pub nodes: Vec<Node>,
}

/// What an instruction did.
pub(super) enum Done {
    /// It produced a value.
    Value(Item),
    /// It changed the state and produced no value.
    Nothing,
    /// It belongs to another group of instructions.
    Other,
}

impl<'a> Machine<'a> {
    /// A machine that starts at byte `at`.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        let (stack, marks, nodes) = (Vec::new(), Vec::new(), Vec::new());
        Self { bytes, at, opcode_at: at, stack, marks, memo: HashMap::new(), nodes }
    }
}

impl Machine<'_> {
    pub(super) fn damaged(&self, reason: &'static str) -> PickleError {
        PickleError::Damaged { at: self.opcode_at, reason }
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let taken = *taken.ok_or(PickleError::Truncated(self.bytes.len()))?;
        self.at += N;
        Ok(taken)
    }

    pub(super) fn length4(&mut self) -> Result<u64> {
        Ok(u32::from_le_bytes(self.take()?).into())
    }

    pub(super) fn length8(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// The next `length` bytes.
    pub(super) fn span(&mut self, length: u64) -> Result<Span> {
        let left = self.bytes.len() - self.at;
        if length > left as u64 {
            return Err(PickleError::Truncated(self.bytes.len()));
        }
        let end = self.at + length as usize;
        let (Ok(start), Ok(to)) = (u32::try_from(self.at), u32::try_from(end)) else {
            return Err(PickleError::Limit { limit: u32::MAX as usize, what: "bytes" });
        };
        self.at = end;
        Ok(Span { start, end: to })
    }

    /// The rest of the line, without its end.
    pub(super) fn span_of_line(&mut self) -> Result<Span> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or(PickleError::Truncated(self.bytes.len()))?;
        let span = self.span(length as u64)?;
        self.at += 1;
        Ok(span)
    }

    pub(super) fn line(&mut self) -> Result<&[u8]> {
        let span = self.span_of_line()?;
        Ok(span.of(self.bytes))
    }

    /// An integer of `length` bytes, in two's complement, little-endian.
    pub(super) fn long(&mut self, length: u64) -> Result<Item> {
        let bytes = self.span(length)?.of(self.bytes);
        if bytes.len() > 8 {
            return Ok(Item::Opaque);
        }
        let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        Ok(Item::Int(i64::from_le_bytes(whole)))
    }

    pub(super) fn pop(&mut self) -> Result<Item> {
        // Values under the last mark belong to a container that was begun before it.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.damaged("a value is missing"));
        }
        self.stack.pop().ok_or_else(|| self.damaged("a value is missing"))
    }

    pub(super) fn top(&self) -> Result<Item> {
        self.stack.last().copied().ok_or_else(|| self.damaged("a value is missing"))
    }

    /// Everything above the last mark.
    pub(super) fn above_mark(&mut self) -> Result<Vec<Item>> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("a mark is missing"))?;
        Ok(self.stack.drain(mark.min(self.stack.len())..).collect())
    }

    pub(super) fn pairs(&self, items: &[Item]) -> Result<Vec<(Item, Item)>> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.damaged("a key has no value"));
        };
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    pub(super) fn node(&mut self, node: Node) -> Result<Item> {
        if self.nodes.len() >= NODES {
            return Err(PickleError::Limit { limit: NODES, what: "objects" });
        }
        self.nodes.push(node);
        Ok(Item::Node(self.nodes.len() as u32 - 1))
    }

    pub(super) fn node_of(&mut self, item: Item) -> Option<&mut Node> {
        let Item::Node(at) = item else { return None };
        self.nodes.get_mut(at as usize)
    }

    pub(super) fn call(&mut self, callable: Item, args: Item, new: bool) -> Result<Item> {
        let (items, entries, state) = (Vec::new(), Vec::new(), Item::None);
        self.node(Node::Call(Box::new(Call { callable, args, new, items, entries, state })))
    }

    pub(super) fn append(&mut self, items: Vec<Item>) -> Result<()> {
        let top = self.top()?;
        match self.node_of(top) {
            Some(Node::List(list)) => list.extend(items),
            Some(Node::Call(call)) => call.items.extend(items),
            _ => return Err(self.damaged("something that is not a list is appended to")),
        }
        Ok(())
    }

    pub(super) fn set(&mut self, pairs: Vec<(Item, Item)>) -> Result<()> {
        let top = self.top()?;
        match self.node_of(top) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Call(call)) => call.entries.extend(pairs),
            _ => return Err(self.damaged("something that is not a dict gets a key")),
        }
        Ok(())
    }

    pub(super) fn recall(&self, at: Item) -> Result<Item> {
        let Item::Int(at) = at else { return Err(self.damaged("a memo has no number")) };
        let known = u32::try_from(at).ok().and_then(|at| self.memo.get(&at));
        known.copied().ok_or_else(|| self.damaged("a memo is read before it is written"))
    }

    pub(super) fn memorise(&mut self, at: Item) -> Result<()> {
        let Item::Int(at) = at else { return Err(self.damaged("a memo has no number")) };
        let at = u32::try_from(at).map_err(|_| self.damaged("a memo has no number"))?;
        let top = self.top()?;
        if self.memo.len() >= NODES {
            return Err(PickleError::Limit { limit: NODES, what: "memos" });
        }
        self.memo.insert(at, top);
        Ok(())
    }
}

/// A decimal integer of any length.
pub(super) fn integer(digits: &[u8]) -> Item {
    let number = std::str::from_utf8(digits).ok().and_then(|text| text.trim().parse().ok());
    number.map_or(Item::Opaque, Item::Int)
}

/// The span without the quotes around it.
pub(super) fn unquoted(span: Span, bytes: &[u8]) -> Span {
    match span.of(bytes) {
        [b'\'', .., b'\''] | [b'"', .., b'"'] => Span { start: span.start + 1, end: span.end - 1 },
        _ => span,
    }
}
