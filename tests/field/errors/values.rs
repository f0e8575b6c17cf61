//! Every key with strange values.

use std::collections::BTreeSet;
use std::path::Path;

use ssl_backdoor::Experiment;
use toml::{Table, Value};

use super::{assert_none, site, wrong};

/// A table for each method.
const METHODS: &[&str] = &[
    "{kind=\"moco-v2\"}",
    "{kind=\"simclr\"}",
    "{kind=\"simclr-v2\"}",
    "{kind=\"simsiam\"}",
    "{kind=\"barlow-twins\"}",
    "{kind=\"vicreg\"}",
    "{kind=\"moco-v3\"}",
    "{kind=\"swav\"}",
    "{kind=\"dino\"}",
    "{kind=\"deepcluster-v2\", prototypes=[4, 4, 4]}",
    "{kind=\"byol\"}",
    "{kind=\"msf\", queue=512}",
    "{kind=\"jigsaw\"}",
    "{kind=\"rotnet\"}",
    "{kind=\"mae\"}",
];

/// Configs with tables of other kinds.
const OTHERS: &[&[&str]] = &[
    &["pretrain.optimizer={kind=\"sgd\", momentum=0.9}", "pretrain.schedule={kind=\"cosine\"}"],
    &["pretrain.optimizer={kind=\"adam\", betas=[0.9, 0.99]}"],
    &["pretrain.schedule={kind=\"steps\", drops=[1], factor=0.1}", "defend={kind=\"compress\"}"],
    &[
        "data={kind=\"cifar10\", size=32, per_class=20}",
        "defend={kind=\"compress\", controls=[\"scratch\"]}",
    ],
    &[
        "data={kind=\"stl10\", path=\"x\", size=32}",
        "pretrain.encoder={kind=\"resnet50\", width=4, stem=\"small\"}",
    ],
    &[
        "data={kind=\"folder\", path=\"x\", size=32}",
        "poison.place={kind=\"random\", min=0.1, max=0.9}",
    ],
    &["data={kind=\"file-list\", train=\"x\", val=\"y\", size=32}", "poison.target=\"a\""],
    &["poison.trigger={kind=\"seeded\", seed=3, width=5}", "poison.count=3", "poison.rate=0.5"],
    &["poison.trigger={kind=\"solid\", color=[1, 2, 3], width=5}"],
    &["poison.trigger={kind=\"text\", text=\"x\", size=8}"],
    &["pretrain.encoder={kind=\"vit\", dim=32, depth=1, heads=2, patch=8}"],
];

/// The values that each key is set to.
const VALUES: &[&str] = &[
    "0",
    "-1",
    "1",
    "2",
    "99999999999",
    "9223372036854775807",
    "18446744073709551616",
    "nan",
    "inf",
    "-inf",
    "1e300",
    "-1e300",
    "1e-300",
    "0.5",
    "\"x\"",
    "true",
    "[]",
    "[-1]",
    "[nan]",
    "{}",
    "2026-01-01",
];

/// The `--set`s of each config.
fn all_sets() -> impl Iterator<Item = Vec<String>> {
    let methods = METHODS.iter().map(|method| vec![format!("pretrain.method={method}")]);
    let others = OTHERS.iter().map(|sets| sets.iter().map(|set| set.to_string()).collect());
    methods.chain(others)
}

/// Faults of the message that refuses `key = value`, set by `--set` over `file`.
fn complaints(key: &str, value: &str, message: &str, file: &str) -> Vec<String> {
    let set = format!("{key}={value}");
    let here = message.contains(&format!("{key} = {value}")) && !message.contains("(default; ");
    let begin = if here { format!("--set {set}: ") } else { String::new() };
    let mut bad: Vec<String> = wrong(&set, message, &begin, "", "").into_iter().collect();
    if !message.starts_with("--set ") && !message.contains(file) {
        bad.push(format!("{set}: no place in: {message}"));
    }
    // A library names the field without its table.
    let field = key.rsplit('.').next().unwrap();
    let said = message.replace(&set, "").replace(&format!("{field} = {value}"), "");
    let words = |c: char| !c.is_ascii_alphanumeric();
    let sentinels = ["18446744073709551615", "9223372036854775807", "4294967295", "NaN", "inf"];
    if said.split(words).any(|word| sentinels.contains(&word)) {
        bad.push(format!("{set}: a number that nobody wrote: {message}"));
    }
    bad
}

/// Sets every key to each of [`VALUES`]: the value is read, or refused in one plain sentence that says where it was
/// written.
#[test]
fn review_2_03_no_number_makes_a_strange_message() {
    let site = site();
    let path = site.path("base.toml");
    let file = path.display().to_string();
    let mut bad = Vec::new();
    let (mut tried, mut refused) = (BTreeSet::new(), 0);
    for (i, sets) in all_sets().enumerate() {
        // All keys of the first config; for the others, only those of the tables that differ.
        let own = |key: &String| {
            let table = |set: &String| set.split('=').next().unwrap().to_owned();
            i == 0 || sets.iter().any(|set| key.starts_with(&table(set)))
        };
        for key in keys(&path, &sets).into_iter().filter(own) {
            for value in VALUES {
                let mut sets = sets.clone();
                sets.push(format!("{key}={value}"));
                tried.insert(key.clone());
                let Err(error) = Experiment::read(&path, &sets) else { continue };
                refused += 1;
                bad.extend(complaints(&key, value, &error.to_string(), &file));
            }
        }
    }
    bad.sort();
    bad.dedup();
    assert_none(bad);
    assert!(tried.len() > 60 && refused > 1000, "{} keys, {refused} refused", tried.len());
    for key in ["seed", "data.per_class", "pretrain.method.bn_groups", "defend.bank", "probe.stage"]
    {
        assert!(tried.contains(key), "{key}");
    }
}

/// All keys of the config with `sets`: each table lists its keys when it is given an unknown one.
fn keys(path: &Path, sets: &[String]) -> Vec<String> {
    fn tables(prefix: &str, table: &Table, all: &mut Vec<String>) {
        all.push(prefix.to_owned());
        for (key, value) in table {
            if let Value::Table(inner) = value {
                tables(&format!("{prefix}{key}."), inner, all);
            }
        }
    }
    let known = Experiment::read(path, sets);
    let known = known.map(|experiment| experiment.to_toml().unwrap().parse::<Table>().unwrap());
    // If the sets do not fit together, a fixed list of tables.
    let mut prefixes = Vec::new();
    match known {
        Ok(table) => tables("", &table, &mut prefixes),
        Err(_) => prefixes.extend(
            ["", "data.", "poison.", "poison.trigger.", "pretrain.", "probe."].map(str::to_owned),
        ),
    }
    prefixes.extend(["pretrain.method.", "pretrain.encoder."].map(str::to_owned));
    prefixes.sort();
    prefixes.dedup();
    let mut keys = Vec::new();
    for prefix in prefixes {
        let mut sets = sets.to_vec();
        sets.push(format!("{prefix}zzzz=1"));
        let message = Experiment::read(path, &sets).unwrap_err().to_string();
        let Some((_, known)) = message.split_once("allowed are ") else { continue };
        keys.extend(known.split(", ").map(|key| format!("{prefix}{key}")));
    }
    keys
}
