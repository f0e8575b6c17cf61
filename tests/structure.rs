//! The structure of the code: no file imports, directly or through others, a file that imports it, and crates depend
//! on each other in one direction.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, UseTree, Visibility};

/// The crates in the order in which they may depend on each other, and the folders of their files.
const CRATES: [(&str, &str); 14] = [
    ("fields", "crates/fields/src"),
    ("rng", "crates/rng/src"),
    ("files", "crates/files/src"),
    ("images", "crates/images/src"),
    ("trigger", "crates/trigger/src"),
    ("data", "crates/data/src"),
    ("kernels", "crates/kernels/src"),
    ("model", "crates/model/src"),
    ("ssl", "crates/ssl/src"),
    ("probe", "crates/probe/src"),
    ("compress", "crates/compress/src"),
    ("scan", "crates/scan/src"),
    ("defend", "crates/defend/src"),
    ("lab", "crates/lab"),
];

/// A path such as `["report", "single"]`: of a module, or of an item in one.
type Name = Vec<String>;

/// The paths in a file: those that it re-exports, and those that it uses.
#[derive(Default)]
struct Uses {
    exported: Vec<Name>,
    used: Vec<Name>,
}

impl Uses {
    fn add(&mut self, tree: &UseTree, before: &[String], export: bool) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.add(&path.tree, &with(path.ident.to_string()), export),
            UseTree::Group(group) => group.items.iter().for_each(|t| self.add(t, before, export)),
            UseTree::Name(_) | UseTree::Rename(_) | UseTree::Glob(_) => {
                let name = match tree {
                    UseTree::Name(name) => with(name.ident.to_string()),
                    UseTree::Rename(name) => with(name.ident.to_string()),
                    _ => before.to_vec(),
                };
                if export { self.exported.push(name) } else { self.used.push(name) }
            }
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    let of_test = |a: &Attribute| {
        a.path().is_ident("cfg")
            && a.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(of_test)
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.used.push(path.segments.iter().map(|s| s.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// The files of a crate by module.
struct Files(BTreeMap<Name, Uses>);

impl Files {
    fn read(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(inner) = folders.pop() {
            for entry in std::fs::read_dir(&inner).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = module(folder, &path) {
                    let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
                    let mut uses = Uses::default();
                    if !is_test(&file.attrs) {
                        uses.visit_file(&file);
                    }
                    files.insert(name, uses);
                }
            }
        }
        Self(files)
    }

    /// Resolves a path in module `at` from the root of the crate; none if it leads out of the crate.
    fn absolute(&self, at: &[String], path: &[String]) -> Option<Name> {
        let first = path.first()?.as_str();
        let rest = &path[1..];
        match first {
            "crate" => Some(rest.to_vec()),
            "self" => Some([at, rest].concat()),
            "super" => {
                let up = &at[..at.len().checked_sub(1)?];
                match rest.first().map(String::as_str) {
                    Some("super") => self.absolute(up, rest),
                    _ => Some([up, rest].concat()),
                }
            }
            _ => {
                let child = [at, &path[..1]].concat();
                self.0.contains_key(&child).then(|| [at, path].concat())
            }
        }
    }

    /// The module that defines the item at `path` (from the root); follows re-exports.
    fn definer(&self, path: &[String], depth: usize) -> Option<Name> {
        let length = (0..=path.len()).rev().find(|&n| self.0.contains_key(&path[..n]))?;
        let (at, rest) = path.split_at(length);
        if let (Some(item), true) = (rest.first(), depth < 9) {
            let mut all = self.0[at].exported.iter().filter_map(|e| self.absolute(at, e));
            if let Some(export) = all.find(|export| export.last() == Some(item)) {
                return self.definer(&[&export[..], &rest[1..]].concat(), depth + 1);
            }
        }
        Some(at.to_vec())
    }

    /// The modules that each module uses. Items that it only re-exports do not count.
    fn edges(&self) -> BTreeMap<Name, BTreeSet<Name>> {
        let of = |(name, uses): (&Name, &Uses)| {
            let found = uses.used.iter().filter_map(|path| {
                let target = self.definer(&self.absolute(name, path)?, 0)?;
                (&target != name).then_some(target)
            });
            (name.clone(), found.collect())
        };
        self.0.iter().map(of).collect()
    }
}

/// The module of the file `path` below `folder`; none for a file that is not a module of the library.
fn module(folder: &Path, path: &Path) -> Option<Name> {
    let inner = path.strip_prefix(folder).unwrap().with_extension("");
    let mut name: Name = inner.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    let rust = path.extension().is_some_and(|extension| extension == "rs");
    let tests = name.iter().any(|part| ["tests", "golden", "main"].contains(&part.as_str()));
    if ["mod", "lib"].contains(&name.last()?.as_str()) {
        name.pop();
    }
    (rust && !tests).then_some(name)
}

/// A cycle in `edges`, if there is one.
fn circle(edges: &BTreeMap<Name, BTreeSet<Name>>) -> Option<Vec<String>> {
    fn walk(
        at: &Name,
        edges: &BTreeMap<Name, BTreeSet<Name>>,
        way: &mut Vec<Name>,
        done: &mut BTreeSet<Name>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|before| before == at) {
            let names = way[start..].iter().chain([at]).map(|name| name.join("::"));
            return Some(names.collect());
        }
        if !done.contains(at) {
            way.push(at.clone());
            for next in &edges[at] {
                let found = walk(next, edges, way, done);
                if found.is_some() {
                    return found;
                }
            }
            way.pop();
            done.insert(at.clone());
        }
        None
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|start| walk(start, edges, &mut Vec::new(), &mut done))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn no_module_imports_itself_through_others() {
    let mut circles = Vec::new();
    for (name, folder) in CRATES {
        let files = Files::read(&root().join(folder));
        assert!(!files.0.is_empty(), "{name} has no files");
        if let Some(circle) = circle(&files.edges()) {
            circles.push(format!("{name}: {}", circle.join(" -> ")));
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// The top-level modules of the binary's crate, in the order in which they may use each other.
const ROOMS: [&str; 9] =
    ["purpose", "shell", "device", "record", "config", "report", "run", "sweep", "commands"];

#[test]
fn rooms_use_those_before_them() {
    let files = Files::read(&root().join("crates/lab"));
    let mut wrong = Vec::new();
    for (from, all) in files.edges() {
        let place = |name: &Name| {
            ROOMS.iter().position(|room| Some(*room) == name.first().map(String::as_str))
        };
        let Some(room) = place(&from) else {
            assert!(from.is_empty(), "{} is in no room", from.join("::"));
            continue;
        };
        let above = all.iter().filter(|to| place(to).is_some_and(|to| to > room));
        wrong.extend(above.map(|to| format!("{} -> {}", from.join("::"), to.join("::"))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_depend_on_those_before_them() {
    for (i, (name, _)) in CRATES.iter().enumerate() {
        let file =
            if *name == "lab" { "Cargo.toml".into() } else { format!("crates/{name}/Cargo.toml") };
        let table: toml::Table =
            std::fs::read_to_string(root().join(file)).unwrap().parse().unwrap();
        for dependency in table["dependencies"].as_table().unwrap().keys() {
            let Some(other) = dependency.strip_prefix("ssl-backdoor-") else { continue };
            let before = CRATES[..i].iter().any(|(before, _)| *before == other);
            assert!(before, "{name} must not depend on {other}");
        }
    }
}

#[test]
fn a_planted_circle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("c")).unwrap();
    write("lib.rs", "mod a; mod b; mod c; pub use a::A;");
    write("a.rs", "use crate::b::B; pub struct A(B);");
    write("b.rs", "pub struct B;");
    write("c/mod.rs", "mod d; pub fn c() { d::d() }");
    write("c/d.rs", "pub fn d() {}");
    let found = || circle(&Files::read(folder.path()).edges());
    assert_eq!(found(), None);
    // Through a re-export.
    write("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::A; }");
    assert_eq!(found(), None);
    write("b.rs", "use crate::A; pub struct B;");
    assert_eq!(found().unwrap(), ["a", "b", "a"]);
    write("b.rs", "pub struct B;");
    // Between a module and its parent.
    write("c/d.rs", "pub fn d() { super::c() }");
    assert_eq!(found().unwrap(), ["c", "c::d", "c"]);
}

/// Draws with the same number and key would be the same.
#[test]
fn every_purpose_of_chance_has_a_number_of_its_own() {
    let mut seen: BTreeMap<u32, PathBuf> = BTreeMap::new();
    for (name, folder) in CRATES {
        let path = root().join(folder).join("purpose.rs");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for part in text.split("Purpose::new(").skip(1) {
            let number: u32 = part.split(')').next().unwrap().parse().unwrap();
            assert!((1..1000).contains(&number), "{name}: {number}");
            if let Some(other) = seen.insert(number, path.clone()) {
                panic!("{number} is taken twice: {} and {}", other.display(), path.display());
            }
        }
    }
    assert!(seen.len() >= 24, "{seen:?}");
}
