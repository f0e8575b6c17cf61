//! The instructions.

mod parts;

use std::collections::HashMap;

use self::parts::{integer, unquoted};
use super::{Item, Node, OPCODES, PickleError, Result, Span};

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    pub at: usize,
    opcode_at: usize,
    stack: Vec<Item>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Item>,
    pub nodes: Vec<Node>,
}

impl<'a> Machine<'a> {
    /// Begins at `at`.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        let (stack, marks, nodes) = (Vec::new(), Vec::new(), Vec::new());
        Self { bytes, at, opcode_at: at, stack, marks, memo: HashMap::new(), nodes }
    }

    /// Runs to the end of the pickle: what it leaves.
    pub fn run(&mut self) -> Result<Item> {
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
}
