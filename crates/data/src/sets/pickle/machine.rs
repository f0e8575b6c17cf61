//! The machine that reads a pickle, opcode by opcode.

use std::collections::HashMap;

use super::value::{Global, Value, shallow};

/// Executes the opcodes, with a stack of values and a memo.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    /// Values that may be used again. Containers are not kept: copies of copies could grow to any size.
    memo: HashMap<usize, Value<'a>>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Position of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Executes one opcode. Returns the value of the pickle if it was the last one.
    pub fn step(&mut self) -> Result<Option<Value<'a>>, String> {
        match self.byte()? {
            // PROTO, FRAME
            0x80 => match self.byte()? {
                2..=4 => {}
                protocol => return Err(format!("protocol {protocol}: supported are 2 to 4")),
            },
            0x95 => drop(self.take(8)?),
            // Numbers: BININT, BININT1, BININT2, LONG1; NEWTRUE, NEWFALSE, NONE
            b'J' => {
                let number = self.take(4)?.iter().rev().fold(0_u32, |n, b| n << 8 | u32::from(*b));
                self.stack.push(Value::Int(i64::from(number as i32)));
            }
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            0x8a => self.long()?,
            0x88 => self.stack.push(Value::Int(1)),
            0x89 => self.stack.push(Value::Int(0)),
            b'N' => self.stack.push(Value::None),
            // Strings: SHORT_BINSTRING, SHORT_BINBYTES, SHORT_BINUNICODE; BINSTRING, BINBYTES, BINUNICODE
            b'U' | b'C' | 0x8c => self.string(1)?,
            b'T' | b'B' | b'X' => self.string(4)?,
            // Containers: EMPTY_LIST, EMPTY_TUPLE, EMPTY_DICT, MARK, TUPLE, TUPLE1 to 3
            b']' | b')' => self.stack.push(Value::List(Vec::new())),
            b'}' => self.stack.push(Value::Dict(Vec::new())),
            b'(' => self.marks.push(self.stack.len()),
            b't' => self.marked().and_then(|items| self.list(items))?,
            count @ 0x85..=0x87 => {
                self.last(usize::from(count - 0x84)).and_then(|items| self.list(items))?;
            }
            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => self.last(1).and_then(|items| self.append(items))?,
            b'e' => self.marked().and_then(|items| self.append(items))?,
            b's' => self.last(2).and_then(|items| self.insert(items))?,
            b'u' => self.marked().and_then(|items| self.insert(items))?,
            // The memo: BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => self.size(1).map(|key| self.keep(key))?,
            b'r' => self.size(4).map(|key| self.keep(key))?,
            0x94 => self.keep(self.memo.len()),
            b'h' => self.size(1).and_then(|key| self.recall(key))?,
            b'j' => self.size(4).and_then(|key| self.recall(key))?,
            // Names and operations on them: GLOBAL, STACK_GLOBAL, REDUCE, BUILD
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => match &self.last(2)?[..] {
                [Value::Str(module), Value::Str(name)] => self.global(module, name)?,
                _ => return Err("a name that is not text".into()),
            },
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'.' => return self.pop().map(Some),
            other => {
                return Err(format!("opcode {other:#04x} is not needed for arrays"));
            }
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("the file is truncated")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned little-endian number of this many bytes, four at most.
    fn size(&mut self, bytes: usize) -> Result<usize, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn unsigned(&mut self, bytes: usize) -> Result<(), String> {
        let number = self.size(bytes)?;
        self.stack.push(Value::Int(number as i64));
        Ok(())
    }

    /// A signed number, preceded by its length.
    fn long(&mut self) -> Result<(), String> {
        let length = self.size(1)?;
        if length > 8 {
            return Err(format!("an integer of {length} bytes: at most 8 are supported"));
        }
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let start = if negative { -1 } else { 0 };
        let number = bytes.iter().rev().fold(start, |n: i64, b| n << 8 | i64::from(*b));
        self.stack.push(Value::Int(number));
        Ok(())
    }

    fn string(&mut self, length: usize) -> Result<(), String> {
        let length = self.size(length)?;
        let bytes = self.take(length)?;
        self.stack.push(Value::Str(bytes));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a [u8], String> {
        let length = self.bytes[self.at..].iter().position(|b| *b == b'\n');
        let line = self.take(length.ok_or("the file is truncated")?)?;
        self.take(1)?;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        Ok(self.last(1)?.swap_remove(0))
    }

    /// Takes the last `count` values, all of them above the last mark.
    fn last(&mut self, count: usize) -> Result<Vec<Value<'a>>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= floor);
        Ok(self.stack.split_off(from.ok_or("too few values before it")?))
    }

    /// Takes the values above the last mark, and removes the mark.
    fn marked(&mut self) -> Result<Vec<Value<'a>>, String> {
        let from = self.marks.pop().filter(|from| *from <= self.stack.len());
        Ok(self.stack.split_off(from.ok_or("no mark before it")?))
    }

    fn list(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        items.iter().try_for_each(shallow)?;
        self.stack.push(Value::List(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        let Value::List(mut list) = self.pop()? else { return Err("no list before it".into()) };
        items.iter().try_for_each(shallow)?;
        list.extend(items);
        self.stack.push(Value::List(list));
        Ok(())
    }

    fn insert(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        let Value::Dict(mut entries) = self.pop()? else {
            return Err("no dictionary before it".into());
        };
        let mut items = items.into_iter();
        while let Some(key) = items.next() {
            let (Value::Str(key), Some(value)) = (key, items.next()) else {
                return Err("an entry of a dictionary without a name or a value".into());
            };
            shallow(&value)?;
            entries.push((key, value));
        }
        self.stack.push(Value::Dict(entries));
        Ok(())
    }

    /// Keeps the last value for later use; a container is replaced by a placeholder.
    fn keep(&mut self, key: usize) {
        let last = self
            .stack
            .last()
            .filter(|v| !matches!(v, Value::List(_) | Value::Dict(_) | Value::Array { .. }));
        self.memo.insert(key, last.cloned().unwrap_or(Value::NewArray));
    }

    fn recall(&mut self, key: usize) -> Result<(), String> {
        match self.memo.get(&key) {
            Some(Value::NewArray) => Err("a list, dictionary or array that is used twice".into()),
            Some(value) => {
                self.stack.push(value.clone());
                Ok(())
            }
            None => Err(format!("value {key} was not stored before")),
        }
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<(), String> {
        let global = match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => {
                Global::Reconstruct
            }
            (b"numpy", b"ndarray") => Global::Array,
            (b"numpy", b"dtype") => Global::Type,
            _ => {
                let [module, name] = [module, name].map(String::from_utf8_lossy);
                return Err(format!(
                    "it names {module}.{name}: only NumPy arrays are supported, and nothing is called"
                ));
            }
        };
        self.stack.push(Value::Global(global));
        Ok(())
    }

    /// Makes an empty array or a type.
    fn reduce(&mut self) -> Result<(), String> {
        let called = self.last(2)?;
        let [Value::Global(global), Value::List(arguments)] = &called[..] else {
            return Err("a call of something that is not a function".into());
        };
        let made = match (global, &arguments[..]) {
            (Global::Reconstruct, [Value::Global(Global::Array), _, _]) => Value::NewArray,
            (Global::Type, [Value::Str(b"u1"), ..]) => Value::ByteType,
            (Global::Type, [Value::Str(other), ..]) => {
                let other = String::from_utf8_lossy(other);
                return Err(format!("an array of type {other}: expected u1, unsigned bytes"));
            }
            _ => return Err("an array with other arguments than NumPy writes".into()),
        };
        self.stack.push(made);
        Ok(())
    }

    /// Fills an array. The state of a one-byte type is ignored.
    fn build(&mut self) -> Result<(), String> {
        let parts = self.last(2)?;
        let made = match &parts[..] {
            [Value::ByteType, Value::List(_)] => Value::ByteType,
            [Value::NewArray, Value::List(state)] => match &state[..] {
                [_, Value::List(shape), Value::ByteType, Value::Int(0), Value::Str(bytes)] => {
                    Value::Array { shape: sizes(shape, bytes.len())?, bytes }
                }
                _ => return Err("an array that is not of unsigned bytes, row by row".into()),
            },
            _ => return Err("the state of an object that is not an array".into()),
        };
        self.stack.push(made);
        Ok(())
    }
}

/// The sizes of an array, checked against its `length` in bytes.
fn sizes(shape: &[Value<'_>], length: usize) -> Result<Vec<usize>, String> {
    let size = |value: &Value<'_>| match value {
        Value::Int(size) => usize::try_from(*size).ok(),
        _ => None,
    };
    let sizes: Option<Vec<usize>> = shape.iter().map(size).collect();
    let sizes = sizes.ok_or("a shape that is not a list of sizes")?;
    match sizes.iter().try_fold(1_usize, |n, size| n.checked_mul(*size)) {
        Some(count) if count == length => Ok(sizes),
        _ => Err(format!("an array of shape {sizes:?} with {length} bytes")),
    }
}
