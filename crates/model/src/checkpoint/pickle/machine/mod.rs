//! The machine that runs the instructions of a pickle.

mod objects;
mod state;
mod values;

pub(super) use self::state::Machine;
use self::state::{Done, integer};
use super::items::{Item, PickleError, Result};

/// Largest number of opcodes in one pickle, which bounds the work that a hostile file can cause.
const OPCODES: usize = 1 << 23;

impl Machine<'_> {
    /// Runs to the end of the pickle and returns its value.
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
        let kinds: [fn(&mut Self, u8) -> Result<Done>; 7] = [
            Self::scalar,
            Self::text,
            Self::container,
            Self::object,
            Self::reference,
            Self::stack,
            Self::memo,
        ];
        for kind in kinds {
            match kind(self, opcode)? {
                Done::Value(item) => {
                    self.stack.push(item);
                    return Ok(());
                }
                Done::Nothing => return Ok(()),
                Done::Other => {}
            }
        }
        Err(PickleError::Opcode { opcode, at: self.opcode_at })
    }

    /// Marks and stack operations.
    fn stack(&mut self, opcode: u8) -> Result<Done> {
        let item = match opcode {
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(Done::Nothing);
            }
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                    return Ok(Done::Nothing);
                }
                return self.pop().map(|_| Done::Nothing);
            }
            b'1' => return self.above_mark().map(|_| Done::Nothing),
            b'2' => self.top()?,
            _ => return Ok(Done::Other),
        };
        Ok(Done::Value(item))
    }

    /// The memo, and instructions without effect here.
    fn memo(&mut self, opcode: u8) -> Result<Done> {
        let item = match opcode {
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
                return self.memorise(at).map(|()| Done::Nothing);
            }
            b'q' => {
                let at = self.take::<1>()?[0].into();
                return self.memorise(Item::Int(at)).map(|()| Done::Nothing);
            }
            b'r' => {
                let at = u32::from_le_bytes(self.take()?).into();
                return self.memorise(Item::Int(at)).map(|()| Done::Nothing);
            }
            0x94 => {
                return self.memorise(Item::Int(self.memo.len() as i64)).map(|()| Done::Nothing);
            }
            // Without effect here: protocol, frame, a buffer that becomes read-only.
            0x80 => return self.take::<1>().map(|_| Done::Nothing),
            0x95 => return self.take::<8>().map(|_| Done::Nothing),
            0x98 => return Ok(Done::Nothing),
            _ => return Ok(Done::Other),
        };
        Ok(Done::Value(item))
    }
}
