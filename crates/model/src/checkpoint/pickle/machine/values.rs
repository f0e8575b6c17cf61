//! Instructions that produce numbers, texts and bytes.

use super::super::items::{Item, Result};
use super::state::{Done, Machine, integer, unquoted};

impl Machine<'_> {
    /// Scalars.
    pub(super) fn scalar(&mut self, opcode: u8) -> Result<Done> {
        let item = match opcode {
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
            _ => return Ok(Done::Other),
        };
        Ok(Done::Value(item))
    }

    /// Texts and bytes; Python 2 wrote its texts with `S`, `T` and `U`.
    pub(super) fn text(&mut self, opcode: u8) -> Result<Done> {
        let item = match opcode {
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
            _ => return Ok(Done::Other),
        };
        Ok(Done::Value(item))
    }
}
