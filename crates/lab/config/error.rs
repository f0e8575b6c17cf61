//! The error of a config: a message that begins with a key, its value and what is allowed.

/// A config or command line that cannot run; the process ends with status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// The words after the value in an out-of-range message.
pub(super) const OUT_OF_RANGE: &str = " is out of range";

/// Inserts `note` after the value in `message`, which begins with `KEY = VALUE`.
pub(crate) fn with_note(message: &str, note: &str) -> String {
    let end = [OUT_OF_RANGE, ": "].iter().filter_map(|word| message.find(word)).min();
    let (value, rest) = message.split_at(end.unwrap_or(message.len()));
    format!("{value}{note}{rest}")
}
