//! Paths that a file list or a ledger names stay in their root, however many `..` they hold.

use std::path::{Component, Path, PathBuf};

/// `path` under `root`, with `.` and `..` resolved by name; none if that lies elsewhere.
pub(crate) fn inside(root: &Path, path: &Path) -> Option<PathBuf> {
    let root = plain(root);
    let path = plain(&root.join(path));
    path.starts_with(&root).then_some(path)
}

/// `path` without `.` and, where a folder stands before it, without `..`.
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
    fn a_path_may_wander_but_not_leave() {
        let of = |root: &str, path: &str| {
            inside(Path::new(root), Path::new(path)).map(|path| path.display().to_string())
        };
        assert_eq!(of("/data", "a/../b/./c.png").as_deref(), Some("/data/b/c.png"));
        assert_eq!(of("/data/../data", "c.png").as_deref(), Some("/data/c.png"));
        assert_eq!(of("sets/x", "y/c.png").as_deref(), Some("sets/x/y/c.png"));
        assert_eq!(of("../x", "c.png").as_deref(), Some("../x/c.png"));
        assert_eq!(of("/data", "/data/c.png").as_deref(), Some("/data/c.png"));
        for (root, path) in [
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
