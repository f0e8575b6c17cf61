#![doc = include_str!("../README.md")]

/// The error that a config field has a value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} = {value} is out of range: {allowed}")]
pub struct OutOfRange {
    /// The field, relative to the config that was checked, with dots between the structs that lead to it.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What is allowed, in words.
    pub allowed: String,
}

impl OutOfRange {
    /// The error that `field` has this `value`; `allowed` describes allowed values.
    pub fn new(field: impl Into<String>, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// The same error, for a config that is itself the field `table` of another config.
    pub fn within(self, table: &str) -> Self {
        Self { field: format!("{table}.{}", self.field), ..self }
    }

    /// The same error, for another `field`.
    pub fn of(self, field: impl Into<String>) -> Self {
        Self { field: field.into(), ..self }
    }
}

/// Checks that the `value` of `field` `fits`.
///
/// # Errors
/// [`OutOfRange`] if it does not.
pub fn require(
    fits: bool,
    field: &str,
    value: impl ToString,
    allowed: impl Into<String>,
) -> Result<(), OutOfRange> {
    if fits { Ok(()) } else { Err(OutOfRange::new(field, value, allowed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_with_the_tables_around_it() {
        assert_eq!(require(true, "k", 1, "1 or more"), Ok(()));
        let error = require(false, "k", 0, "1 or more").unwrap_err();
        assert_eq!(error.to_string(), "k = 0 is out of range: 1 or more");
        let inner = error.clone().within("knn").within("probe");
        assert_eq!(inner.to_string(), "probe.knn.k = 0 is out of range: 1 or more");
        assert_eq!(error.of("neighbours"), OutOfRange::new("neighbours", 0, "1 or more"));
    }
}
