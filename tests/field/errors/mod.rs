//! Errors of configs name where the value was written and what is allowed, and give each reason once.

mod lines;
mod origins;
mod reasons;
mod values;

use std::collections::BTreeSet;

use ssl_backdoor::Experiment;

use crate::sets::Site;

/// A small experiment; the tests below refer to its line numbers.
const BASE: &str = r#"name = "x"
seed = 1

[data]
kind = "shapes"
size = 32
per_class = 20

[poison]
target = 3
rate = 0.5
trigger = { kind = "htba", id = 12, width = 8 }

[pretrain]
method = { kind = "moco-v2", queue = 512, bn_groups = 1 }
encoder = { kind = "resnet18", width = 4, stem = "small" }
epochs = 2
batch = 64

[probe]
labels = [
    0.1,
    0.5,
]
"#;

/// The message of `base.toml` with `sets`, without the folder's path.
fn message(site: &Site, sets: &[&str]) -> String {
    of_file(site, "base.toml", sets)
}

fn of_file(site: &Site, name: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    let error = Experiment::read(&site.path(name), &sets).unwrap_err();
    without_folder(site, &error.to_string())
}

/// A message with paths relative to the site.
fn without_folder(site: &Site, message: &str) -> String {
    let folder = site.path("base.toml");
    message.replace(&format!("{}/", folder.parent().unwrap().display()), "")
}

/// Fails with all wrong messages, if any.
#[track_caller]
fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A report if `message` does not begin with `begin`, contain `words` and end with `end`, or has strange words.
fn wrong(case: &str, message: &str, begin: &str, words: &str, end: &str) -> Option<String> {
    let right = message.starts_with(begin) && message.contains(words) && message.ends_with(end);
    let strange = strange(message);
    (!right || strange.is_some()).then(|| {
        format!("{case}\n    {message}\n    wanted: {begin} … {words} … {end} {strange:?}")
    })
}

fn site() -> Site {
    let site = Site::new();
    site.write("base.toml", BASE);
    site
}

/// A word of the underlying libraries, or a phrase that occurs twice.
fn strange(message: &str) -> Option<String> {
    let inner = [
        "any variant",
        "variant identifier",
        "untagged",
        "struct ",
        "enum ",
        "serde",
        "visitor",
        "deserialize",
        "usize",
        "expected u",
        "expected i",
        "expected f",
        "Some(",
        "None",
        "IO error",
    ];
    if let Some(word) = inner.into_iter().find(|word| message.contains(word)) {
        return Some(format!("“{word}”"));
    }
    let mut phrases = BTreeSet::new();
    message
        .trim()
        .split(": ")
        .map(str::trim)
        .find(|phrase| !phrases.insert(*phrase))
        .map(str::to_owned)
}
