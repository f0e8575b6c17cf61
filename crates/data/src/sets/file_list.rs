//! File lists as the reference reads them: a line per image, `path label`, further columns ignored. A
//! path that holds a blank is separated by a tab, which the reference cannot read.

use std::path::{Path, PathBuf};

use super::folder::Entry;
use super::{format, read};
use crate::inside::inside;
use crate::{DataError, UNLABELLED};

/// More classes than any set has: a wild label allocates nothing huge.
const MAX_CLASSES: u32 = 100_000;

/// Reads the list `path`; relative paths in it start at `root`, or else where the list lies, and stay there. Absolute
/// ones are taken as they are, but with a `root` they must lie in it.
pub(crate) fn load(path: &Path, root: Option<&Path>) -> Result<Vec<Entry>, DataError> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| format(path, format!("no UTF-8: {e}")))?;
    let free = root.is_none();
    let root = root.or(path.parent()).unwrap_or(Path::new(""));
    let entries = parse(text).map_err(|reason| format(path, reason))?;
    if entries.is_empty() {
        return Err(format(path, "it lists no image".into()));
    }
    let rooted = |entry: Entry| {
        if free && entry.path.is_absolute() {
            return Ok(entry);
        }
        let outside = || {
            let (shown, root) = (entry.path.display(), root.display());
            format(path, format!("{shown} leaves {root}: a list names files in its root alone"))
        };
        Ok(Entry { path: inside(root, &entry.path).ok_or_else(outside)?, label: entry.label })
    };
    entries.into_iter().map(rooted).collect()
}

/// Reads a list's text.
pub(crate) fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let tabbed = line.contains('\t');
        let mut columns: Box<dyn Iterator<Item = &str>> =
            if tabbed { Box::new(line.split('\t')) } else { Box::new(line.split_whitespace()) };
        let (Some(path), Some(label)) = (columns.next(), columns.next()) else {
            return Err(format!("line {number} is not 'path label': {line:?}"));
        };
        let label: u32 =
            label.trim().parse().ok().filter(|&l| l < MAX_CLASSES).ok_or_else(|| {
                let hint =
                    if tabbed { "" } else { " (a path that holds a blank needs a tab behind it)" };
                format!(
                    "line {number}: label {label:?} is no class, 0 to {}{hint}",
                    MAX_CLASSES - 1
                )
            })?;
        entries.push(Entry { path: PathBuf::from(path), label });
    }
    Ok(entries)
}

/// A list's text: path, class (-1 for an [unlabelled](UNLABELLED) image) and, if given, the box of a patch (x, y, width, height). The second value
/// says whether a path held a blank, so that the reference cannot read it.
///
/// # Errors
/// A path with a tab or a line break in it, which no list can hold.
pub fn list_text<'a>(
    lines: impl Iterator<Item = (&'a str, u32, Option<[u32; 4]>)>,
) -> Result<(String, bool), String> {
    let mut text = String::new();
    let mut blanks = false;
    for (path, label, patch) in lines {
        if path.contains(['\t', '\n', '\r']) {
            return Err(format!("{path:?} holds a tab or a line break: no file list can name it"));
        }
        let blank = path.contains(char::is_whitespace);
        blanks |= blank;
        text.push_str(path);
        let label = if label == UNLABELLED { -1 } else { i64::from(label) };
        let patch = patch.into_iter().flatten().map(i64::from);
        for number in std::iter::once(label).chain(patch) {
            text.push(if blank { '\t' } else { ' ' });
            text.push_str(&number.to_string());
        }
        text.push('\n');
    }
    Ok((text, blanks))
}

/// Names of the classes of some entries: the folder their images lie in, where all images of a class
/// lie in folders of one name and no two classes share it; else the numbers.
pub(crate) fn class_names(entries: &[Entry]) -> Vec<String> {
    let count = entries.iter().map(|entry| entry.label + 1).max().unwrap_or(0) as usize;
    let mut folders: Vec<Option<&str>> = vec![None; count];
    let mut mixed = false;
    for entry in entries {
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
            ("a.png 0\nalone\n", "line 2"),
            ("my photo.png 3\n", "needs a tab"),
            ("a.png -1", "label \"-1\""),
            ("a.png 4000000000", "label"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn a_list_cannot_name_what_lies_outside_its_root() {
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
            assert!(reason.contains("list.txt") && reason.contains("leaves"), "{reason}");
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
