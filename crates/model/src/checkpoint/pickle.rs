//! A pickle as data: the stack machine of CPython's `pickle` for protocols 0 to 5, without calling anything.
//!
//! The result is a graph. What Python would make by a call (an object of some class, a tensor) is a [`Call`] that
//! names the callable and holds its arguments. Nodes refer to each other by number, so shared and cyclic values cost
//! what they cost in the file. Texts and bytes stay in the file and are referred to by their place.

use std::collections::HashMap;

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
    let mut machine = Machine {
        bytes,
        at,
        opcode_at: at,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
    };
    let root = machine.run()?;
    Ok(Pickle { root, nodes: machine.nodes, end: machine.at })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    opcode_at: usize,
    stack: Vec<Item>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Item>,
    nodes: Vec<Node>,
}

type Result<T, E = PickleError> = std::result::Result<T, E>;

impl Machine<'_> {
    fn run(&mut self) -> Result<Item> {
        for _ in 0..OPCODES {
            self.opcode_at = self.at;
            let [opcode] = self.take()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
        Err(PickleError::Limit { limit: OPCODES, what: "instructions" })
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        let item = match opcode {
            // Scalars.
            b'N' => Item::None,
            0x88 => Item::Bool(true),
            0x89 => Item::Bool(false),
            b'J' => Item::Int(i32::from_le_bytes(self.take()?).into()),
            b'K' => Item::Int(self.take::<1>()?[0].into()),
            b'M' => Item::Int(u16::from_le_bytes(self.take()?).into()),
            b'G' => Item::Float(f64::from_be_bytes(self.take()?)),
            b'I' => match self.line()? {
                b"00" => Item::Bool(false),
                b"01" => Item::Bool(true),
                digits => integer(digits),
            },
            b'L' => {
                let line = self.line()?;
                integer(line.strip_suffix(b"L").unwrap_or(line))
            }
            b'F' => {
                let text = std::str::from_utf8(self.line()?).ok();
                let number = text.and_then(|text| text.trim().parse().ok());
                Item::Float(number.ok_or_else(|| self.damaged("a number is expected"))?)
            }
            0x8a => {
                let length = self.take::<1>()?[0].into();
                self.long(length)?
            }
            0x8b => {
                let length = self.length4()?;
                self.long(length)?
            }
            // Texts and bytes; Python 2 wrote its texts by `S`, `T` and `U`.
            b'S' => {
                let line = self.span_of_line()?;
                Item::Text(unquoted(line, self.bytes))
            }
            b'V' => Item::Text(self.span_of_line()?),
            b'X' | b'T' => {
                let length = self.length4()?;
                Item::Text(self.span(length)?)
            }
            b'U' | 0x8c => {
                let length = self.take::<1>()?[0].into();
                Item::Text(self.span(length)?)
            }
            0x8d => {
                let length = self.length8()?;
                Item::Text(self.span(length)?)
            }
            b'B' => {
                let length = self.length4()?;
                Item::Bytes(self.span(length)?)
            }
            b'C' => {
                let length = self.take::<1>()?[0].into();
                Item::Bytes(self.span(length)?)
            }
            0x8e | 0x96 => {
                let length = self.length8()?;
                Item::Bytes(self.span(length)?)
            }
            // Containers.
            b')' => self.node(Node::Tuple(Vec::new()))?,
            b']' | 0x8f => self.node(Node::List(Vec::new()))?,
            b'}' => self.node(Node::Dict(Vec::new()))?,
            b't' => {
                let items = self.above_mark()?;
                self.node(Node::Tuple(items))?
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..opcode - 0x84 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.node(Node::Tuple(items))?
            }
            b'l' | 0x91 => {
                let items = self.above_mark()?;
                self.node(Node::List(items))?
            }
            b'd' => {
                let items = self.above_mark()?;
                let pairs = self.pairs(&items)?;
                self.node(Node::Dict(pairs))?
            }
            b'a' => {
                let item = self.pop()?;
                return self.append(vec![item]);
            }
            b'e' | 0x90 => {
                let items = self.above_mark()?;
                return self.append(items);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                return self.set(vec![(key, value)]);
            }
            b'u' => {
                let items = self.above_mark()?;
                let pairs = self.pairs(&items)?;
                return self.set(pairs);
            }
            // Classes, functions and what they give.
            b'c' => {
                let (module, name) = (self.span_of_line()?, self.span_of_line()?);
                self.node(Node::Global(module, name))?
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Item::Text(module), Item::Text(name)) = (module, name) else {
                    return Err(self.damaged("a class is named by no text"));
                };
                self.node(Node::Global(module, name))?
            }
            b'R' => {
                let (args, callable) = (self.pop()?, self.pop()?);
                self.call(callable, args, false)?
            }
            0x81 => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.call(class, args, true)?
            }
            0x92 => {
                let (named, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                let args = self.node(Node::Tuple(vec![args, named]))?;
                self.call(class, args, true)?
            }
            b'i' => {
                let (module, name) = (self.span_of_line()?, self.span_of_line()?);
                let class = self.node(Node::Global(module, name))?;
                let args = self.above_mark()?;
                let args = self.node(Node::Tuple(args))?;
                self.call(class, args, true)?
            }
            b'o' => {
                let mut args = self.above_mark()?;
                if args.is_empty() {
                    return Err(self.damaged("an object has no class"));
                }
                let class = args.remove(0);
                let args = self.node(Node::Tuple(args))?;
                self.call(class, args, true)?
            }
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                // Nothing but an object has attributes that could matter.
                if let Some(Node::Call(call)) = self.node_of(top) {
                    call.state = state;
                }
                return Ok(());
            }
            b'P' => {
                let id = Item::Text(self.span_of_line()?);
                self.node(Node::Persistent(id))?
            }
            b'Q' => {
                let id = self.pop()?;
                self.node(Node::Persistent(id))?
            }
            0x82 => self.take::<1>().map(|_| Item::Opaque)?,
            0x83 => self.take::<2>().map(|_| Item::Opaque)?,
            0x84 => self.take::<4>().map(|_| Item::Opaque)?,
            0x97 => Item::Opaque,
            // The stack and the memo.
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                    return Ok(());
                }
                return self.pop().map(|_| ());
            }
            b'1' => return self.above_mark().map(|_| ()),
            b'2' => self.top()?,
            b'g' => {
                let at = integer(self.line()?);
                self.recall(at)?
            }
            b'h' => {
                let at = self.take::<1>()?[0].into();
                self.recall(Item::Int(at))?
            }
            b'j' => {
                let at = u32::from_le_bytes(self.take()?).into();
                self.recall(Item::Int(at))?
            }
            b'p' => {
                let at = integer(self.line()?);
                return self.memorise(at);
            }
            b'q' => {
                let at = self.take::<1>()?[0].into();
                return self.memorise(Item::Int(at));
            }
            b'r' => {
                let at = u32::from_le_bytes(self.take()?).into();
                return self.memorise(Item::Int(at));
            }
            0x94 => return self.memorise(Item::Int(self.memo.len() as i64)),
            // Without effect here: protocol, frame, a buffer that becomes read-only.
            0x80 => return self.take::<1>().map(|_| ()),
            0x95 => return self.take::<8>().map(|_| ()),
            0x98 => return Ok(()),
            _ => return Err(PickleError::Opcode { opcode, at: self.opcode_at }),
        };
        self.stack.push(item);
        Ok(())
    }

    fn damaged(&self, reason: &'static str) -> PickleError {
        PickleError::Damaged { at: self.opcode_at, reason }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let taken = *taken.ok_or(PickleError::Truncated(self.bytes.len()))?;
        self.at += N;
        Ok(taken)
    }

    fn length4(&mut self) -> Result<u64> {
        Ok(u32::from_le_bytes(self.take()?).into())
    }

    fn length8(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// The next `length` bytes.
    fn span(&mut self, length: u64) -> Result<Span> {
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
    fn span_of_line(&mut self) -> Result<Span> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or(PickleError::Truncated(self.bytes.len()))?;
        let span = self.span(length as u64)?;
        self.at += 1;
        Ok(span)
    }

    fn line(&mut self) -> Result<&[u8]> {
        let span = self.span_of_line()?;
        Ok(span.of(self.bytes))
    }

    /// An integer of `length` bytes, in two's complement, the lowest first.
    fn long(&mut self, length: u64) -> Result<Item> {
        let bytes = self.span(length)?.of(self.bytes);
        if bytes.len() > 8 {
            return Ok(Item::Opaque);
        }
        let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
        let mut whole = [if negative { 0xff } else { 0 }; 8];
        whole[..bytes.len()].copy_from_slice(bytes);
        Ok(Item::Int(i64::from_le_bytes(whole)))
    }

    fn pop(&mut self) -> Result<Item> {
        // What lies under a mark belongs to what was begun before it.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.damaged("a value is missing"));
        }
        self.stack.pop().ok_or_else(|| self.damaged("a value is missing"))
    }

    fn top(&self) -> Result<Item> {
        self.stack.last().copied().ok_or_else(|| self.damaged("a value is missing"))
    }

    /// Everything above the last mark.
    fn above_mark(&mut self) -> Result<Vec<Item>> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("a mark is missing"))?;
        Ok(self.stack.drain(mark.min(self.stack.len())..).collect())
    }

    fn pairs(&self, items: &[Item]) -> Result<Vec<(Item, Item)>> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.damaged("a key has no value"));
        };
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn node(&mut self, node: Node) -> Result<Item> {
        if self.nodes.len() >= NODES {
            return Err(PickleError::Limit { limit: NODES, what: "objects" });
        }
        self.nodes.push(node);
        Ok(Item::Node(self.nodes.len() as u32 - 1))
    }

    fn node_of(&mut self, item: Item) -> Option<&mut Node> {
        let Item::Node(at) = item else { return None };
        self.nodes.get_mut(at as usize)
    }

    fn call(&mut self, callable: Item, args: Item, new: bool) -> Result<Item> {
        let (items, entries, state) = (Vec::new(), Vec::new(), Item::None);
        self.node(Node::Call(Box::new(Call { callable, args, new, items, entries, state })))
    }

    fn append(&mut self, items: Vec<Item>) -> Result<()> {
        let top = self.top()?;
        match self.node_of(top) {
            Some(Node::List(list)) => list.extend(items),
            Some(Node::Call(call)) => call.items.extend(items),
            _ => return Err(self.damaged("what is appended to is no list")),
        }
        Ok(())
    }

    fn set(&mut self, pairs: Vec<(Item, Item)>) -> Result<()> {
        let top = self.top()?;
        match self.node_of(top) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Call(call)) => call.entries.extend(pairs),
            _ => return Err(self.damaged("what gets a key is no dict")),
        }
        Ok(())
    }

    fn recall(&self, at: Item) -> Result<Item> {
        let Item::Int(at) = at else { return Err(self.damaged("a memo has no number")) };
        let known = u32::try_from(at).ok().and_then(|at| self.memo.get(&at));
        known.copied().ok_or_else(|| self.damaged("a memo is read before it is written"))
    }

    fn memorise(&mut self, at: Item) -> Result<()> {
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
fn integer(digits: &[u8]) -> Item {
    let number = std::str::from_utf8(digits).ok().and_then(|text| text.trim().parse().ok());
    number.map_or(Item::Opaque, Item::Int)
}

/// Without the quotes around it.
fn unquoted(span: Span, bytes: &[u8]) -> Span {
    match span.of(bytes) {
        [b'\'', .., b'\''] | [b'"', .., b'"'] => Span { start: span.start + 1, end: span.end - 1 },
        _ => span,
    }
}
