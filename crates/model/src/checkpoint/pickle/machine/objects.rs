//! Instructions that create containers and objects.

use super::super::items::{Item, Node, Result};
use super::state::{Done, Machine};

impl Machine<'_> {
    /// Containers.
    pub(super) fn container(&mut self, opcode: u8) -> Result<Done> {
        let item = match opcode {
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
                return self.append(vec![item]).map(|()| Done::Nothing);
            }
            b'e' | 0x90 => {
                let items = self.above_mark()?;
                return self.append(items).map(|()| Done::Nothing);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                return self.set(vec![(key, value)]).map(|()| Done::Nothing);
            }
            b'u' => {
                let items = self.above_mark()?;
                let pairs = self.pairs(&items)?;
                return self.set(pairs).map(|()| Done::Nothing);
            }
            _ => return Ok(Done::Other),
        };
        Ok(Done::Value(item))
    }

    /// Classes, functions and calls of them.
    pub(super) fn object(&mut self, opcode: u8) -> Result<Done> {
        let item = match opcode {
            b'c' => {
                let (module, name) = (self.span_of_line()?, self.span_of_line()?);
                self.node(Node::Global(module, name))?
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Item::Text(module), Item::Text(name)) = (module, name) else {
                    return Err(self.damaged("the name of a class is not text"));
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
                // Only an object has attributes that could matter.
                if let Some(Node::Call(call)) = self.node_of(top) {
                    call.state = state;
                }
                return Ok(Done::Nothing);
            }
            _ => return Ok(Done::Other),
        };
        Ok(Done::Value(item))
    }

    /// References to data outside the pickle.
    pub(super) fn reference(&mut self, opcode: u8) -> Result<Done> {
        let item = match opcode {
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
            _ => return Ok(Done::Other),
        };
        Ok(Done::Value(item))
    }
}
