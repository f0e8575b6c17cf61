//! Words of a shell.

/// Whether `text` needs no quotes: not empty, only plain characters. To a shell, brackets are special all the same.
pub(super) fn is_safe(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-[]".contains(c);
    !text.is_empty() && text.chars().all(safe)
}

/// `text` as one word, quoted if necessary.
pub(super) fn word(text: &str) -> String {
    let brackets = text.contains(['[', ']']);
    match is_safe(text) && !brackets {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
