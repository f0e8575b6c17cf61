//! Tests against the parser: ask it which keys it knows, table by table, without the derived schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::shape::{keys, variants};
use super::{derived, reference};
use crate::config::mismatch::Why;
use crate::config::{Document, Experiment, Node, SweepFile, read};

/// The keys of each table, by its path and kind.
type Tables = BTreeMap<(String, Option<String>), BTreeSet<String>>;

/// A key that no table has; it is read before all others.
const STRANGE: &str = "AAA";

fn why<T: DeserializeOwned>(text: &str) -> Option<Why> {
    let node = Node::parse(Path::new("x.toml"), text).unwrap_or_else(|e| panic!("{text}: {e}"));
    read::read::<T>(&node).err().map(|found| found.why)
}

/// The parser's error for the value `text` where `file` writes it; none if the parser accepts the value, even if it
/// then misses other keys of the file.
fn said<T: DeserializeOwned>(file: &dyn Fn(&str) -> String, text: &str) -> Option<Why> {
    match why::<T>(&file(text)) {
        Some(Why::Missing(key)) if key != "kind" => None,
        why => why,
    }
}

/// Finds the keys of the tables that are allowed at `path`.
fn explore<T: DeserializeOwned>(path: &str, file: &dyn Fn(&str) -> String, tables: &mut Tables) {
    match said::<T>(file, &format!("{{ {STRANGE} = 1 }}")) {
        Some(Why::UnknownKey(_, known)) => table::<T>(path, None, known, file, tables),
        Some(Why::Missing("kind")) => {
            let kinds = said::<T>(file, &format!("{{ kind = \"{STRANGE}\" }}"));
            let Some(Why::Name(kinds)) = kinds else { panic!("{path}: {kinds:?}") };
            for kind in kinds {
                let asked = format!("{{ kind = \"{kind}\", {STRANGE} = 1 }}");
                // Serde ignores the keys of a kind that has none.
                let known = match said::<T>(file, &asked) {
                    Some(Why::UnknownKey(_, known)) => known,
                    None => &[],
                    why => panic!("{path}, {kind}: {why:?}"),
                };
                table::<T>(path, Some(kind), known, file, tables);
            }
        }
        Some(Why::Name(names)) => {
            // Names that hold a value: `custom = { … }`.
            let asked =
                |name: &str, value: &str| said::<T>(file, &format!("{{ {name} = {value} }}"));
            let strange = format!("{{ {STRANGE} = 1 }}");
            let holds = |name: &&&str| {
                asked(name, "1").is_none()
                    || matches!(asked(name, &strange), Some(Why::UnknownKey(key, _)) if key == STRANGE)
            };
            let with: Vec<&str> = names.iter().filter(holds).copied().collect();
            table::<T>(path, None, &with, file, tables);
        }
        Some(_) => {
            let inside = |text: &str| file(&format!("[{text}]"));
            if let Some(Why::UnknownKey(_, known)) =
                said::<T>(&inside, &format!("{{ {STRANGE} = 1 }}"))
            {
                table::<T>(path, None, known, &inside, tables);
            }
        }
        None => {}
    }
}

fn table<T: DeserializeOwned>(
    path: &str,
    kind: Option<&str>,
    known: &[&str],
    file: &dyn Fn(&str) -> String,
    tables: &mut Tables,
) {
    if !known.is_empty() {
        let all = known.iter().map(|key| key.to_string()).collect::<BTreeSet<_>>();
        let of_kind = (path.to_owned(), kind.map(str::to_owned));
        tables.entry(of_kind).or_default().extend(all);
    }
    let head = kind.map_or(String::new(), |kind| format!("kind = \"{kind}\", "));
    for key in known {
        let file = |text: &str| file(&format!("{{ {head}{key} = {text} }}"));
        explore::<T>(&format!("{path}.{key}"), &file, tables);
    }
}

/// All tables of a file; the file itself has the path "".
fn accepted<T: DeserializeOwned>() -> Tables {
    let Some(Why::UnknownKey(_, known)) = why::<T>(&format!("{STRANGE} = 1")) else { panic!() };
    let mut tables = Tables::new();
    let root = known.iter().map(|key| key.to_string()).collect();
    tables.insert((String::new(), None), root);
    for key in known {
        explore::<T>(key, &|text| format!("{key} = {text}"), &mut tables);
    }
    tables
}

/// The tables that the page names: of experiments, and of sweeps.
fn documented(page: &str) -> [Tables; 2] {
    let mut all = [Tables::new(), Tables::new()];
    let (mut file, mut at) = (0, Vec::new());
    let mut listed = false;
    let quoted = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(|name| name.trim_matches(['[', ']']).into())
            .collect()
    };
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            file = usize::from(file == 1 || heading == "Sweep files");
            let path = quoted(heading).pop().unwrap_or_default();
            at = vec![(path, None)];
        } else if let Some(heading) = line.strip_prefix("### ") {
            let (paths, kinds) = heading.split_once(": ").unwrap_or((heading, ""));
            let kinds: Vec<Option<String>> = match quoted(kinds) {
                kinds if kinds.is_empty() => vec![None],
                kinds => kinds.into_iter().map(Some).collect(),
            };
            let paths = quoted(paths);
            at = paths
                .iter()
                .flat_map(|path| kinds.iter().map(|kind| (path.clone(), kind.clone())))
                .collect();
        } else if line.starts_with("| key ") {
            listed = true;
        } else if let Some(row) = line.strip_prefix("| `").filter(|_| listed) {
            let key = row.split('`').next().unwrap().to_owned();
            for table in &at {
                assert!(
                    all[file].entry(table.clone()).or_default().insert(key.clone()),
                    "{line} twice"
                );
            }
        } else if line.is_empty() {
            listed = false;
        }
    }
    all
}

#[test]
fn the_page_names_every_key_that_the_parser_accepts_and_no_other() {
    let page = reference(&derived::<SweepFile>());
    let [mut experiment, sweep] = documented(&page);
    // `extends` and `unset` are resolved before the file is parsed.
    for key in ["extends", "unset"] {
        assert!(experiment.get_mut(&(String::new(), None)).unwrap().remove(key), "{key}");
    }
    for (named, accepted) in
        [(experiment, accepted::<Experiment>()), (sweep, accepted::<SweepFile>())]
    {
        assert!(accepted.len() > 2);
        for place in named.keys().chain(accepted.keys()) {
            assert_eq!(named.get(place), accepted.get(place), "{place:?}");
        }
    }
}

/// Sets each bounded key of `schema` at `path` of the valid config `file` out of its bounds.
fn break_bounds(path: &str, schema: &Value, config: &Value, tried: &mut usize, file: &Path) {
    let kind = config.get("kind").and_then(Value::as_str);
    let of_kind = variants(schema)
        .and_then(|all| all.into_iter().find(|one| Some(one.kind) == kind).map(|one| one.schema));
    for (key, schema) in keys(of_kind.unwrap_or(schema)).into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if let Some(config) = config.get(key).filter(|config| config.is_object()) {
            break_bounds(&path, schema, config, tried, file);
            continue;
        }
        for value in beyond(schema) {
            let set = format!("{path}={value}");
            let read = Document::open(file, std::slice::from_ref(&set)).and_then(Experiment::of);
            assert!(read.is_err(), "{}: --set {set} is accepted", file.display());
            *tried += 1;
        }
    }
}

/// Values that the schema of a key refuses.
fn beyond(schema: &Value) -> Vec<Value> {
    if let Some(items) = schema.get("items") {
        let item = items.get(0).unwrap_or(items);
        let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).max(1);
        return beyond(item).into_iter().map(|value| json!(vec![value; count as usize])).collect();
    }
    let whole = schema.get("type") == Some(&"integer".into());
    let bound =
        |key: &str| schema.get(key).and_then(Value::as_f64).filter(|bound| bound.abs() < 1e15);
    let value = |number: f64| if whole { json!(number as i64) } else { json!(number) };
    let step = if whole { 1.0 } else { 1e-3 };
    let below = [
        bound("minimum").map(|bound| value(bound - step)),
        bound("exclusiveMinimum").map(value),
        bound("maximum").map(|bound| value(bound * (1.0 + 1e-6) + step)),
        bound("exclusiveMaximum").map(value),
    ];
    below.into_iter().flatten().collect()
}

#[test]
fn what_the_schema_refuses_for_its_size_the_parser_refuses_too() {
    let schema = derived::<Experiment>();
    let mut tried = 0;
    for folder in ["configs", "configs/shapes", "configs/fashion-mnist", "configs/cifar10"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let is_config = file.extension().is_some_and(|extension| extension == "toml");
            let Ok(config) = Experiment::read(&file, &[]) else { continue };
            assert!(is_config);
            let config = serde_json::to_value(&config).unwrap();
            break_bounds("", &schema, &config, &mut tried, &file);
        }
    }
    assert!(tried > 1000, "{tried}");
}
