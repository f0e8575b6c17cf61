//! The error of a config: a message that begins with a key, its value and what is allowed.

/// A config or command line that cannot run; the process ends with status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// Keys at the top of a config.
pub(crate) const TOP: [&str; 9] =
    ["name", "seed", "device", "workers", "data", "poison", "pretrain", "probe", "defend"];

/// What follows the value in a message about its range.
pub(super) const OUT_OF_RANGE: &str = " is out of range";

/// The key that a message begins with, if it begins with one.
pub(crate) fn leading_key(message: &str) -> Option<&str> {
    let end = message.find([' ', '=', ':'])?;
    let key = &message[..end];
    let top = key.split(['.', '[']).next()?;
    TOP.contains(&top).then_some(key)
}

/// `message`, which begins with `KEY = VALUE`, with `note` behind the value.
pub(crate) fn with_note(message: &str, note: &str) -> String {
    let end = [OUT_OF_RANGE, ": "].iter().filter_map(|word| message.find(word)).min();
    let (value, rest) = message.split_at(end.unwrap_or(message.len()));
    format!("{value}{note}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_with_a_key_or_not() {
        for (message, key) in [
            ("pretrain.lr = 0 is out of range", Some("pretrain.lr")),
            ("probe.labels[1] = 2: no", Some("probe.labels[1]")),
            ("poison needs exactly one", Some("poison")),
            ("cannot read x.toml: no", None),
            ("probes = 3", None),
        ] {
            assert_eq!(leading_key(message), key, "{message}");
        }
    }
}
