//! The ledger columns that a perturbation writes for one image.

use std::borrow::Cow;

use serde::Serialize;

use crate::TriggerError;

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A whole number, 0 or more.
    Whole(u64),
    /// A finite number.
    Real(f64),
    /// Anything else. A text that looks like a number is read back as that number.
    Text(String),
}

impl Value {
    /// Parses a field of a CSV file.
    pub(crate) fn parse(field: &str) -> Self {
        if let Ok(whole) = field.parse() {
            return Self::Whole(whole);
        }
        match field.parse::<f64>() {
            Ok(real) if real.is_finite() => Self::Real(real),
            _ => Self::Text(field.to_owned()),
        }
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// How one image is changed, by column: everything that a perturbation needs to change it again in the same way. A
/// column must not have the name of one that every ledger has (see [`LedgerRow`](crate::LedgerRow)).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record(Vec<(Cow<'static, str>, Value)>);

impl Record {
    /// Appends a column.
    pub fn with(mut self, column: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.0.push((column.into(), value.into()));
        self
    }

    /// The names of its columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(column, _)| column.as_ref())
    }

    /// Its values, in order.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The whole number in `column`.
    ///
    /// # Errors
    /// [`TriggerError::Column`]: there is none, or it is not in 0 to 2³² − 1.
    pub fn whole(&self, column: &'static str) -> Result<u32, TriggerError> {
        let number = match self.value(column)? {
            Value::Whole(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(column, "a whole number, 0 to 2^32 - 1"))
    }

    /// The image id in `column`.
    ///
    /// # Errors
    /// [`TriggerError::Column`]: there is none, or it is not in 0 to 2⁶⁴ − 1.
    pub fn id(&self, column: &'static str) -> Result<u64, TriggerError> {
        match self.value(column)? {
            Value::Whole(number) => Ok(*number),
            _ => Err(self.wrong(column, "a whole number, 0 to 2^64 - 1")),
        }
    }

    /// The number in `column`.
    ///
    /// # Errors
    /// [`TriggerError::Column`]: there is none.
    pub fn real(&self, column: &'static str) -> Result<f64, TriggerError> {
        match self.value(column)? {
            Value::Whole(number) => Ok(*number as f64),
            Value::Real(number) => Ok(*number),
            Value::Text(_) => Err(self.wrong(column, "a number")),
        }
    }

    /// The text in `column`.
    ///
    /// # Errors
    /// [`TriggerError::Column`]: there is none, or it is a number.
    pub fn text(&self, column: &'static str) -> Result<&str, TriggerError> {
        match self.value(column)? {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong(column, "a text")),
        }
    }

    fn value(&self, column: &'static str) -> Result<&Value, TriggerError> {
        let found = self.0.iter().find(|(name, _)| name == column);
        found.map(|(_, value)| value).ok_or_else(|| self.wrong(column, "a value"))
    }

    fn wrong(&self, column: &'static str, expected: &'static str) -> TriggerError {
        let shown = |value: &Value| match value {
            Value::Whole(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        };
        let found = self.0.iter().find(|(name, _)| name == column);
        let value = found.map_or("nothing".into(), |(_, value)| shown(value));
        TriggerError::Column { column, value, expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_as_written() {
        for (value, field) in [
            (Value::from(7u32), "7"),
            (Value::from(u64::MAX), "18446744073709551615"),
            (Value::from(0.0), "0.0"),
            (Value::from(0.2), "0.2"),
            (Value::from("left".to_owned()), "left"),
            (Value::from("inf".to_owned()), "inf"),
            (Value::from(String::new()), ""),
        ] {
            assert_eq!(Value::parse(field), value);
        }
    }

    #[test]
    fn a_column_that_is_absent_or_of_another_type_is_named() {
        let record =
            Record::default().with("x", 3u32).with("alpha", 0.5).with("side", "up".to_owned());
        assert_eq!((record.whole("x").unwrap(), record.real("alpha").unwrap()), (3, 0.5));
        assert_eq!((record.real("x").unwrap(), record.id("x").unwrap()), (3.0, 3));
        assert_eq!(record.text("side").unwrap(), "up");
        let words = |error: TriggerError| error.to_string();
        assert_eq!(
            words(record.whole("alpha").unwrap_err()),
            "column alpha has 0.5: expected a whole number, 0 to 2^32 - 1"
        );
        assert!(words(record.real("side").unwrap_err()).contains("side has up"));
        assert!(words(record.text("x").unwrap_err()).contains("expected a text"));
        assert!(words(record.id("y").unwrap_err()).contains("y has nothing"));
        assert!(Record::default().with("x", 1u64 << 32).whole("x").is_err());
    }
}
