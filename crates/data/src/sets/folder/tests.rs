use super::*;
use crate::{LeftOut, OnCorrupt};

/// A folder with these files, all empty.
fn with(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }
    root
}

fn below(root: &Path, entries: &[Entry]) -> Vec<(String, u32)> {
    let name = |entry: &Entry| entry.path.strip_prefix(root).unwrap().display().to_string();
    entries.iter().map(|entry| (name(entry), entry.label)).collect()
}

fn counts(tally: Tally) -> Vec<(LeftOutKind, usize)> {
    tally.finish().0.iter().map(|LeftOut { kind, count, .. }| (*kind, *count)).collect()
}

#[test]
fn field_f08_folders_are_read_at_any_depth_in_the_order_of_torchvision() {
    // The order is that of torchvision.datasets.ImageFolder on the same files.
    let files = [
        "b/2.png",
        "b/10.PNG",
        "b/a/1.webp",
        "b/a-b/1.jpe",
        "b/a/c/1.jfif",
        "b/Z/1.bmp",
        "a/x/1.tif",
    ];
    let root = with(&files);
    let mut tally = Tally::new(OnCorrupt::Stop);
    let found = training(root.path(), &mut tally).unwrap();
    assert_eq!(found.classes.unwrap(), ["a", "b"]);
    let expected = [
        ("a/x/1.tif", 0),
        ("b/10.PNG", 1),
        ("b/2.png", 1),
        ("b/Z/1.bmp", 1),
        ("b/a/1.webp", 1),
        ("b/a-b/1.jpe", 1),
        ("b/a/c/1.jfif", 1),
    ];
    let expected = expected.map(|(name, label)| (name.to_owned(), label));
    assert_eq!(below(root.path(), &found.entries), expected);
    assert_eq!(counts(tally), []);
}

#[test]
fn field_f08_everything_else_is_counted_by_kind() {
    let root = with(&[
        "a/1.png",
        "a/1.HEIC",
        "a/x/2.avif",
        "a/notes.txt",
        "a/README",
        "a/.x.png",
        "a/.git/config",
        "b/1.png",
        "beside.png",
        "list.csv",
    ]);
    let mut tally = Tally::new(OnCorrupt::Stop);
    let found = training(root.path(), &mut tally).unwrap();
    assert_eq!(found.entries.len(), 2);
    let expected = [
        (LeftOutKind::BesideClasses, 1),
        (LeftOutKind::Format, 2),
        (LeftOutKind::Other, 3),
        (LeftOutKind::Hidden, 2),
    ];
    assert_eq!(counts(tally), expected);
}

#[test]
fn field_f08_classes_that_only_one_part_has_are_counted() {
    let root = with(&["a/1.png", "a/2.png", "c/1.png", "c/x/2.png", "d/notes.txt", "b/notes.txt"]);
    let classes = ["a", "b", "e"].map(str::to_owned);
    let mut tally = Tally::new(OnCorrupt::Stop);
    let entries = evaluation(root.path(), &classes, &mut tally).unwrap();
    assert_eq!(below(root.path(), &entries), [("a/1.png".into(), 0), ("a/2.png".into(), 0)]);
    let expected = [
        (LeftOutKind::UntrainedClass, 2),
        (LeftOutKind::ClassNotInVal, 2),
        (LeftOutKind::Other, 2),
    ];
    assert_eq!(counts(tally), expected);
    let none = evaluation(root.path(), &["x".into()], &mut Tally::new(OnCorrupt::Stop));
    let reason = none.unwrap_err().to_string();
    assert!(reason.contains("a, b, c, d") && reason.contains("the classes are x"), "{reason}");
    let mut tally = Tally::new(OnCorrupt::Stop);
    others(root.path(), &classes, &mut tally).unwrap();
    assert_eq!(counts(tally), [(LeftOutKind::OtherClass, 2)]);
}

#[test]
fn images_without_class_folders_carry_no_labels() {
    let root = with(&["2.png", "1.jpg", "notes.txt", "empty/notes.txt"]);
    let mut tally = Tally::new(OnCorrupt::Stop);
    let found = training(root.path(), &mut tally).unwrap();
    assert_eq!(found.classes, None);
    let expected = [("1.jpg".to_owned(), UNLABELLED), ("2.png".to_owned(), UNLABELLED)];
    assert_eq!(below(root.path(), &found.entries), expected);
    // Evaluation images need classes.
    let reason = classes(&with(&["1.png"]).path().join(""), &mut tally).unwrap_err().to_string();
    assert!(reason.contains("1 images are not in class folders"), "{reason}");
    let reason = training(with(&["a/notes.txt"]).path(), &mut tally).err().unwrap().to_string();
    assert!(reason.contains("the class has no images (.jpg, "), "{reason}");
}

#[cfg(unix)]
#[test]
fn field_f08_links_are_followed_but_not_in_circles() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let elsewhere = with(&["2.png"]);
    let root = with(&["a/1.png", "b/1.png"]);
    symlink("..", root.path().join("a/up")).unwrap();
    symlink(elsewhere.path(), root.path().join("a/more")).unwrap();
    symlink("/nowhere/x.png", root.path().join("a/dead.png")).unwrap();
    let mut tally = Tally::new(OnCorrupt::Stop);
    let found = training(root.path(), &mut tally).unwrap();
    let names: Vec<String> =
        below(root.path(), &found.entries).into_iter().map(|(name, _)| name).collect();
    // "a/up" leads to the folder of the classes, and from there back.
    assert_eq!(names, ["a/1.png", "a/dead.png", "a/more/2.png", "a/up/b/1.png", "b/1.png"]);
    assert_eq!(counts(tally), [(LeftOutKind::Loop, 1)]);
    let odd = root.path().join("a").join(OsStr::from_bytes(b"\xff.png"));
    std::fs::write(odd, b"").unwrap();
    assert!(training(root.path(), &mut Tally::new(OnCorrupt::Stop)).is_err());
    let mut tally = Tally::new(OnCorrupt::Skip);
    training(root.path(), &mut tally).unwrap();
    assert!(counts(tally).contains(&(LeftOutKind::Name, 1)));
}
