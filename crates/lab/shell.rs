//! Words of a shell, for commands that a message proposes and for job scripts.

use std::path::Path;

/// Whether `text` needs no quotes: not empty, only plain characters. To a shell, brackets are special all the same.
pub(crate) fn is_safe(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-[]".contains(c);
    !text.is_empty() && text.chars().all(safe)
}

/// `text` as one word, quoted if necessary.
pub(crate) fn word(text: &str) -> String {
    let brackets = text.contains(['[', ']']);
    match is_safe(text) && !brackets {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// `path` as one word.
pub(crate) fn path_word(path: &Path) -> String {
    word(&path.display().to_string())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_each_word_as_it_was() {
        let words = [
            "runs/a-1",
            "my runs/a",
            "it's",
            "runs/[ab]*",
            "$HOME",
            "a\"b",
            "~x",
            "",
            "ä",
            "a\nb",
            "#a",
            "a=b",
        ];
        for text in words {
            let script = format!("printf %s {}", word(text));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
