//! Paths in a file list or a ledger may not leave their root, however many `..` they contain.

use std::path::{Component, Path, PathBuf};

/// `path` under `root`, with `.` and `..` resolved by name; `None` if that is outside. Links are not resolved: a link
/// in the root may lead anywhere.
pub(crate) fn inside(root: &Path, path: &Path) -> Option<PathBuf> {
    let root = plain(root);
    let path = if path.is_absolute() && root.is_relative() {
        // Rewrite the absolute path in terms of the relative root.
        root.join(plain(path).strip_prefix(whole(&root)).ok()?)
    } else {
        plain(&root.join(path))
    };
    // Below an empty root, or one of `..` alone, every path starts with the root.
    let rest = path.strip_prefix(&root).ok()?;
    let stays = rest.components().all(|part| matches!(part, Component::Normal(_)));
    stays.then_some(path)
}

/// `path` made absolute, without `.` and `..`: two names of one location are equal, except through links.
pub(crate) fn whole(path: &Path) -> PathBuf {
    // An empty path names the current folder.
    let path = Path::new(".").join(path);
    plain(&std::path::absolute(&path).unwrap_or(path))
}

/// `path` without `.`, and without `..` where a folder precedes it.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        let named = matches!(plain.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::CurDir => {}
            Component::ParentDir if named => {
                plain.pop();
            }
            Component::ParentDir if plain.has_root() => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_f13_a_path_may_wander_but_not_leave() {
        let of = |root: &str, path: &str| {
            inside(Path::new(root), Path::new(path)).map(|path| path.display().to_string())
        };
        assert_eq!(of("/data", "a/../b/./c.png").as_deref(), Some("/data/b/c.png"));
        assert_eq!(of("/data/../data", "c.png").as_deref(), Some("/data/c.png"));
        assert_eq!(of("sets/x", "y/c.png").as_deref(), Some("sets/x/y/c.png"));
        assert_eq!(of("../x", "c.png").as_deref(), Some("../x/c.png"));
        assert_eq!(of("/data", "/data/c.png").as_deref(), Some("/data/c.png"));
        let here = std::env::current_dir().unwrap();
        let here = here.to_str().unwrap();
        assert_eq!(of("", "y/c.png").as_deref(), Some("y/c.png"));
        assert_eq!(of(".", "./y/../c.png").as_deref(), Some("c.png"));
        assert_eq!(of("..", "c.png").as_deref(), Some("../c.png"));
        assert_eq!(of("", &format!("{here}/c.png")).as_deref(), Some("c.png"));
        assert_eq!(of("x", &format!("{here}/x/c.png")).as_deref(), Some("x/c.png"));
        for (root, path) in [
            ("", "../secret"),
            (".", "../secret"),
            ("", "a/../../secret"),
            ("", "/etc/passwd"),
            (".", "/etc/passwd"),
            ("..", "../secret"),
            ("../..", "../secret"),
            ("a/..", "../secret"),
            ("x", "/etc/passwd"),
            ("/data", "../secret"),
            ("/data", "a/../../secret"),
            ("/data", "/etc/passwd"),
            ("/data", "../database/c.png"),
            ("x", "../../y"),
            ("../x", "../../x/c.png"),
        ] {
            assert_eq!(of(root, path), None, "{root} {path}");
        }
    }
}
