//! Schemas of config files and their reference: committed files are current, and the committed configs fit them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop anywhere")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Set this variable to rewrite the committed files.
const UPDATE: &str = "UPDATE_CONFIGURATION";

/// The committed files, and the arguments of `ssl-backdoor schema` that print them.
const FILES: [(&str, &[&str]); 3] = [
    ("configs/experiment.schema.json", &["experiment"]),
    ("configs/sweep.schema.json", &["sweep"]),
    ("docs/configuration.md", &["--markdown"]),
];

fn printed(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssl-backdoor"));
    let output = command.arg("schema").args(arguments).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn committed_schemas_and_reference_are_those_of_the_types() {
    for (file, arguments) in FILES {
        let now = printed(arguments);
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(file, &now).unwrap();
        }
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            committed == now,
            "{file} is not current: run {UPDATE}=1 cargo test --test configuration"
        );
    }
}

/// A schema that reports the errors of a config.
struct Schema(jsonschema::Validator);

impl Schema {
    fn of(file: &str) -> Self {
        let schema: Value = serde_json::from_str(&printed(&[file])).unwrap();
        assert!(jsonschema::meta::is_valid(&schema));
        Self(jsonschema::validator_for(&schema).unwrap())
    }

    /// All errors, each with the path of the value.
    fn errors(&self, toml: &str) -> Vec<String> {
        let config: toml::Table = toml::from_str(toml).unwrap();
        let config = serde_json::to_value(config).unwrap();
        self.0.iter_errors(&config).map(|e| format!("{}: {e}", e.instance_path())).collect()
    }
}

fn configs() -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![PathBuf::from("configs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "toml" => all.push(path),
                _ => {}
            }
        }
    }
    all
}

#[test]
fn every_config_names_its_schema_and_fits_it() {
    let (experiment, sweep) = (Schema::of("experiment"), Schema::of("sweep"));
    let mut counts = [0, 0];
    for path in configs() {
        let text = std::fs::read_to_string(&path).unwrap();
        let is_sweep = text.contains("[[axis]]");
        counts[usize::from(is_sweep)] += 1;
        let (schema, name) = match is_sweep {
            true => (&sweep, "sweep.schema.json"),
            false => (&experiment, "experiment.schema.json"),
        };
        let shown = path.display();
        let named = text.lines().next().unwrap().strip_prefix("#:schema ");
        let named = named.unwrap_or_else(|| panic!("{shown} names no schema in its first line"));
        let named = path.parent().unwrap().join(named).canonicalize().unwrap();
        assert_eq!(named, Path::new("configs").join(name).canonicalize().unwrap(), "{shown}");
        assert_eq!(schema.errors(&text), Vec::<String>::new(), "{shown}");
    }
    assert!(counts[0] > 40 && counts[1] > 4, "{counts:?}");
}

#[test]
fn misspelt_and_missing_keys_and_values_out_of_range_are_refused_where_they_stand() {
    let experiment = Schema::of("experiment");
    let config = std::fs::read_to_string("configs/quickstart.toml").unwrap();
    assert!(config.contains("bn_groups = 1 }"));
    for (from, to, place, word) in [
        ("per_class = 500", "per_clas = 500", "/data", "per_clas"),
        ("dim = 64, bn_groups", "dimm = 64, bn_groups", "/pretrain/method", "dimm"),
        ("rate = 1.0", "rate = 1.5", "/poison/rate", "1.5"),
        ("momentum = 0.996", "momentum = 1.996", "/pretrain/method/momentum", "1.996"),
        ("size = 28", "size = 4", "/data/size", "4"),
        ("id = 12, width = 9", "id = 20, width = 9", "/poison/trigger/id", "20"),
        ("stem = \"small\"", "stem = \"smal\"", "/pretrain/encoder/stem", "smal"),
        ("kind = \"shapes\"", "kind = \"shape\"", "/data/kind", "shape"),
        ("epochs = 24", "epochs = \"24\"", "/pretrain/epochs", "24"),
        ("seed = 1\n", "", "", "seed"),
        ("target = 8\n", "target = 8\nratio = 1\n", "/poison", "ratio"),
        ("kind = \"compress\"", "kind = \"compress\"\nbanc = 3", "/defend", "banc"),
    ] {
        assert!(config.contains(from), "{from}");
        let errors = experiment.errors(&config.replacen(from, to, 1));
        let found = errors.iter().any(|e| e.starts_with(place) && e.contains(word));
        assert!(found, "{to}: {errors:?}");
    }
    // A file that extends another needs no key, but may not have unknown ones.
    assert_eq!(
        experiment.errors("extends = \"a.toml\"\n[data]\nsize = 32\n"),
        Vec::<String>::new()
    );
    let unset = "extends = \"a.toml\"\nunset = [\"defend\", \"poison.rate\"]\n";
    assert_eq!(experiment.errors(unset), Vec::<String>::new());
    assert!(!experiment.errors(&unset.replace("rate", "rat")).is_empty());
    let alone = config.replacen("seed = 1\n", "seed = 1\nunset = []\n", 1);
    assert!(!experiment.errors(&alone).is_empty());
    for wrong in ["[data]\nsiz = 32", "[data]\nsize = 4", "[defens]\nkind = \"luma\""] {
        assert!(!experiment.errors(&format!("extends = \"a.toml\"\n{wrong}\n")).is_empty());
    }
}

#[test]
fn overrides_of_a_sweep_are_keys_of_an_experiment() {
    let sweep = Schema::of("sweep");
    let of = |set: &str| {
        sweep.errors(&format!(
            "name = \"s\"\nbase = \"b.toml\"\nset = {{ {set} }}\n[[axis]]\nname = \"a\"\nkey = \"seed\"\nvalues = [1]\n"
        ))
    };
    for good in ["seed = 1", "\"poison.target\" = 3", "\"pretrain.method\" = { kind = \"mae\" }"] {
        assert_eq!(of(good), Vec::<String>::new(), "{good}");
    }
    for bad in ["\"poison.targt\" = 3", "\"pretrain.epochs\" = 0", "epochs = 3"] {
        assert!(!of(bad).is_empty(), "{bad}");
    }
    assert!(!sweep.errors("name = \"s\"\naxis = [{ name = \"a\", point = [] }]").is_empty());
}
