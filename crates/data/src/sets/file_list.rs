//! File lists: a line per image, `path label`, further columns ignored, as the reference reads them. A path that
//! contains a blank is followed by a tab, which the reference cannot read. A list of images without labels has no
//! second column at all, or -1 in it.
//!
//! Lists are UTF-8, with or without a byte-order mark; lines end as on any system; empty ones are skipped. There are
//! no comments. A relative path may contain `..` but not leave the root. Links are followed wherever they lead:
//! whoever created the root put them there, while a list may come from anywhere.

use std::path::{Path, PathBuf};

use super::folder::Entry;
use super::input::{format, read};
use crate::inside::inside;
use crate::{DataError, UNLABELLED};

/// More classes than any set has: limits what a wrong label can allocate.
const MAX_CLASSES: u32 = 100_000;

/// The label of an unlabelled image in a list.
const NO_LABEL: &str = "-1";

/// Reads the list `path`; relative paths in it start at `root`, or else at the list's folder, and must stay there.
/// Absolute paths are unchanged, but with a `root` they must be below it.
///
/// # Errors
/// The list cannot be read or does not name an image, a line is malformed, or a path leaves the root.
pub(crate) fn load(path: &Path, root: Option<&Path>) -> Result<Vec<Entry>, DataError> {
    let free = root.is_none();
    let root = root.or(path.parent()).unwrap_or(Path::new(""));
    let entries =
        text(&read(path)?).and_then(|text| parse(&text)).map_err(|reason| format(path, reason))?;
    if entries.is_empty() {
        return Err(format(path, "it lists no images".into()));
    }
    let rooted = |entry: Entry| {
        if free && entry.path.is_absolute() {
            return Ok(entry);
        }
        let outside = || {
            let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
            let (shown, root) = (entry.path.display(), root.display());
            format(
                path,
                format!("{shown} is outside {root}: a list may name only files below its root"),
            )
        };
        Ok(Entry { path: inside(root, &entry.path).ok_or_else(outside)?, label: entry.label })
    };
    entries.into_iter().map(rooted).collect()
}

/// The text of a list, without a byte-order mark.
pub(crate) fn text(bytes: &[u8]) -> Result<String, String> {
    if bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || bytes.get(..200).unwrap_or(bytes).contains(&0)
    {
        return Err("the text is UTF-16 or binary: save it as UTF-8".into());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            let line =
                1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            Err(format!("line {line} is not UTF-8"))
        }
    }
}

/// Reads a list's text.
///
/// # Errors
/// Names the line, its content and what is allowed.
pub(crate) fn parse(text: &str) -> Result<Vec<Entry>, String> {
    // As in Python, a carriage return alone also ends a line.
    let text = text.replace("\r\n", "\n");
    let mut entries: Vec<Entry> = Vec::new();
    // The line of the first image that has a label column, and of the first that has none.
    let (mut with, mut without) = (None, None);
    for (number, line) in (1..).zip(text.split(['\n', '\r'])) {
        if line.trim().is_empty() {
            continue;
        }
        let tabbed = line.contains('\t');
        let mut columns: Box<dyn Iterator<Item = &str>> =
            if tabbed { Box::new(line.split('\t')) } else { Box::new(line.split_whitespace()) };
        let Some(path) = columns.next().filter(|path| !path.trim().is_empty()) else {
            return Err(format!("line {number} has no path: {line:?}"));
        };
        let column = columns.next().map(str::trim).filter(|label| !label.is_empty());
        if column.is_some() { &mut with } else { &mut without }.get_or_insert(number);
        if let (Some(with), Some(without)) = (with, without) {
            return Err(format!(
                "line {with} has a label, line {without} has none: give a label to every image, {NO_LABEL} for unlabelled ones"
            ));
        }
        let label = match column {
            None | Some(NO_LABEL) => UNLABELLED,
            Some(label) => class(label).ok_or_else(|| {
                let hint = match line.trim_start() {
                    _ if tabbed => "",
                    line if line.starts_with('#') => " (a list has no comments)",
                    _ => " (a path with a blank must be followed by a tab)",
                };
                let last = MAX_CLASSES - 1;
                format!("line {number}: label {label:?} is not a class, 0 to {last}, or {NO_LABEL} for unlabelled{hint}")
            })?,
        };
        entries.push(Entry { path: PathBuf::from(path), label });
    }
    Ok(entries)
}

fn class(label: &str) -> Option<u32> {
    label.parse().ok().filter(|&class| class < MAX_CLASSES)
}

/// A list's text: path, class (-1 for [`UNLABELLED`]) and, if given, the box of a patch (x, y, width, height). The
/// second value says whether a path contains a blank, so that the reference cannot read the list.
///
/// # Errors
/// A path contains a tab or a line break, which a list cannot represent.
pub fn list_text<'a>(
    lines: impl Iterator<Item = (&'a str, u32, Option<[u32; 4]>)>,
) -> Result<(String, bool), String> {
    let mut text = String::new();
    let mut blanks = false;
    for (path, label, patch) in lines {
        if path.contains(['\t', '\n', '\r']) {
            return Err(format!(
                "{path:?} contains a tab or a line break, so a file list cannot name it"
            ));
        }
        let blank = path.contains(char::is_whitespace);
        blanks |= blank;
        text.push_str(path);
        let label = if label == UNLABELLED { NO_LABEL.to_owned() } else { label.to_string() };
        for column in
            std::iter::once(label).chain(patch.into_iter().flatten().map(|n| n.to_string()))
        {
            text.push(if blank { '\t' } else { ' ' });
            text.push_str(&column);
        }
        text.push('\n');
    }
    Ok((text, blanks))
}

/// Class names of the entries: their folders' names, if all images of a class are in folders of one name and no two
/// classes share it; else the class numbers.
pub(crate) fn class_names(entries: &[Entry]) -> Vec<String> {
    let labelled = || entries.iter().filter(|entry| entry.label != UNLABELLED);
    let count = labelled().map(|entry| entry.label + 1).max().unwrap_or(0) as usize;
    let mut folders: Vec<Option<&str>> = vec![None; count];
    let mut mixed = false;
    for entry in labelled() {
        let folder = entry.path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let known = &mut folders[entry.label as usize];
        mixed |= folder.is_none() || known.is_some_and(|known| Some(known) != folder);
        *known = folder;
    }
    let mut unique: Vec<_> = folders.iter().flatten().collect();
    unique.sort_unstable();
    unique.dedup();
    if mixed || unique.len() < count {
        return (0..count).map(|class| class.to_string()).collect();
    }
    folders.into_iter().flatten().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, label: u32) -> Entry {
        Entry { path: path.into(), label }
    }

    #[test]
    fn reads_blanks_tabs_and_extra_columns() {
        let text = "a/b.JPEG 3\n\n/c/d.png  0 12 13 50 50\r\nmy dir/ü.png\t1\textra\n";
        let expected = [entry("a/b.JPEG", 3), entry("/c/d.png", 0), entry("my dir/ü.png", 1)];
        assert_eq!(parse(text).unwrap(), expected);
        for (text, words) in [
            ("a.png 0\nalone\n", "line 1 has a label, line 2 has none"),
            ("my photo.png 3\n", "followed by a tab"),
            (
                "\n# the classes\na.png 1\n",
                "line 2: label \"the\" is not a class, 0 to 99999, or -1 for unlabelled (a list has no comments)",
            ),
            ("a.png -2", "label \"-2\""),
            ("a.png 1.0", "label \"1.0\""),
            ("a.png 4000000000", "label"),
            ("a.png 4294967295", "label"),
            ("\t3\n", "line 1 has no path"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn field_f13_lines_end_as_on_any_system_and_a_byte_order_mark_is_no_part_of_a_path() {
        for bytes in [
            &b"\xef\xbb\xbfa.png 1\nb.png 0"[..],
            b"a.png 1\rb.png 0\r",
            b"a.png 1\r\n\r\nb.png 0\r\n",
        ] {
            let entries = parse(&text(bytes).unwrap()).unwrap();
            assert_eq!(entries, [entry("a.png", 1), entry("b.png", 0)]);
        }
        for bytes in [&b"\xff\xfea\0.\0"[..], b"\xfe\xff\0a", b"a\0.\0p\0"] {
            assert!(text(bytes).unwrap_err().contains("save it as UTF-8"));
        }
        assert_eq!(text(b"a.png 1\n\xff.png 1"), Err("line 2 is not UTF-8".into()));
    }

    #[test]
    fn field_f13_an_image_without_a_label_has_no_second_column_or_minus_one() {
        let expected = [entry("a.png", UNLABELLED), entry("my dir/b.png", UNLABELLED)];
        assert_eq!(parse("a.png\nmy dir/b.png\t\n").unwrap(), expected);
        assert_eq!(parse("a.png -1\nmy dir/b.png\t-1\n").unwrap(), expected);
        assert_eq!(class_names(&expected), [""; 0]);
        let lines = expected.each_ref().map(|e| (e.path.to_str().unwrap(), e.label, None));
        let (text, _) = list_text(lines.into_iter()).unwrap();
        assert_eq!(text, "a.png -1\nmy dir/b.png\t-1\n");
        let mixed = parse("x/cat/a.png 0\nb.png -1\n").unwrap();
        assert_eq!(class_names(&mixed), ["cat"]);
    }

    #[test]
    fn field_f13_a_list_cannot_name_what_lies_outside_its_root() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.txt");
        let of = |text: &str, root: Option<&Path>| {
            std::fs::write(&list, text).unwrap();
            load(&list, root).map(|entries| entries[0].path.clone()).map_err(|e| e.to_string())
        };
        assert_eq!(of("a/../b.png 0", None), Ok(folder.path().join("b.png")));
        assert_eq!(of("/elsewhere/b.png 0", None), Ok("/elsewhere/b.png".into()));
        let root = Some(Path::new("/data"));
        assert_eq!(of("/data/b.png 0", root), Ok("/data/b.png".into()));
        for (text, root) in [("../b.png 0", None), ("../b.png 0", root), ("/etc/passwd 0", root)] {
            let reason = of(text, root).unwrap_err();
            assert!(reason.contains("list.txt") && reason.contains("is outside"), "{reason}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let lines = [("a/b.png", 3, None), ("my dir/c.png", 0, Some([9, 7, 5, 5]))];
        let (text, blanks) = list_text(lines.into_iter()).unwrap();
        assert!(blanks && text == "a/b.png 3\nmy dir/c.png\t0\t9\t7\t5\t5\n");
        assert_eq!(parse(&text).unwrap(), lines.map(|(path, label, _)| entry(path, label)));
        assert!(list_text([("a\tb", 0, None)].into_iter()).is_err());
    }

    #[test]
    fn classes_are_named_by_their_folders_where_that_is_possible() {
        let named = [entry("x/cat/1.png", 1), entry("y/cat/2.png", 1), entry("x/ant/1.png", 0)];
        assert_eq!(class_names(&named), ["ant", "cat"]);
        assert_eq!(class_names(&[entry("x/1.png", 1), entry("x/2.png", 0)]), ["0", "1"]);
        assert_eq!(class_names(&[entry("x/1.png", 1)]), ["0", "1"]);
    }
}
