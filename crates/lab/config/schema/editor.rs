//! The JSON Schemas for editors, in draft 7, which Taplo supports.
//!
//! A table with several kinds is checked against its own kind alone (`if`, `then`, `else`), so that an error names
//! the wrong key. Keys are required only in a file that extends no other.

use serde_json::{Map, Value, json};

use super::derived;
use super::entry::Entry;
use super::shape::{KIND, Variant, description, keys, names, required, variants};
use crate::config::Experiment;

/// The key that names the base file.
const EXTENDS: &str = "extends";
/// The key that lists what is removed from it.
const UNSET: &str = "unset";

/// The schema of an experiment's file.
pub(crate) fn experiment_schema() -> Value {
    let full = for_editors(&derived::<Experiment>());
    let mut schema = full.clone();
    lenient(&mut schema);
    let extends = json!({
        "type": "string",
        "description": "Path of a config, relative to this file, whose keys apply where this file has none. Default: none."
    });
    let known = dotted(&schema);
    let unset = json!({
        "type": "array",
        "items": { "enum": known.keys().collect::<Vec<_>>() },
        "description": "Dotted keys of the extended config to leave out. Default: `[]`."
    });
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.insert(EXTENDS.into(), extends);
        properties.insert(UNSET.into(), unset);
    }
    schema["dependencies"] = json!({ UNSET: [EXTENDS] });
    schema["if"] = json!({ "required": [EXTENDS] });
    schema["else"] = needed(&full).unwrap_or_default();
    headed(schema, "Experiment of ssl-backdoor")
}

/// The schema of a sweep file, made from `file`, derived from its type. Overrides accept an experiment's keys.
pub(crate) fn sweep_schema(file: &Value) -> Value {
    let mut experiment = for_editors(&derived::<Experiment>());
    lenient(&mut experiment);
    let dotted = dotted(&experiment);
    let known: Vec<&String> = dotted.keys().collect();
    let (known, set) = (json!({ "enum": known }), json!({ "$ref": "#/definitions/overrides" }));
    let mut schema = for_editors(file);
    let mut put = |at: &str, value: &Value| {
        if let Some(Value::Object(there)) = schema.pointer_mut(at) {
            there.remove("additionalProperties");
            there.remove("type");
            there.extend(
                value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())),
            );
        }
    };
    let axis = "/properties/axis/items/properties";
    let point = format!("{axis}/points/items/properties");
    // In draft 7, keywords beside a reference are ignored.
    let all_of = json!({ "allOf": [set] });
    put("/properties/set", &all_of);
    put(&format!("{point}/set"), &all_of);
    put(&format!("{point}/unset/items"), &known);
    put(&format!("{axis}/key"), &known);
    let overrides =
        json!({ "type": "object", "properties": dotted, "additionalProperties": false });
    schema["definitions"] = json!({ "overrides": overrides });
    headed(schema, "Sweep of ssl-backdoor")
}

fn headed(mut schema: Value, title: &str) -> Value {
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = title.into();
    schema
}

/// A derived schema in the form that editors understand best.
fn for_editors(schema: &Value) -> Value {
    if let Some(variants) = variants(schema) {
        return by_kind(schema, &variants);
    }
    if let Some(one) = one_or_several(schema) {
        let (mut new, items) = (for_editors(one), for_editors(one));
        new["type"] = json!(["object", "array"]);
        new["items"] = items;
        return new;
    }
    let Value::Object(old) = schema else { return schema.clone() };
    let mut new = Map::new();
    for (key, value) in old {
        let value = match (key.as_str(), value) {
            ("properties", Value::Object(keys)) => {
                let described = |(key, schema): (&String, &Value)| (key.clone(), of_key(schema));
                Value::Object(keys.iter().map(described).collect())
            }
            ("anyOf" | "oneOf" | "items", Value::Array(all)) => {
                all.iter().map(for_editors).collect()
            }
            ("items", one) => for_editors(one),
            _ => value.clone(),
        };
        new.insert(key.clone(), value);
    }
    if let Some(names) = names(schema).filter(|_| old.contains_key("oneOf")) {
        new.remove("oneOf");
        new.extend(choice(&names));
    }
    Value::Object(new)
}

/// The schema of a table, if a list of such tables is also allowed.
fn one_or_several(schema: &Value) -> Option<&Value> {
    match &schema.get("anyOf")?.as_array()?[..] {
        [one, several] if several.get("items") == Some(one) => Some(one),
        _ => None,
    }
}

/// The schema of a key; its text states the range and the default.
fn of_key(schema: &Value) -> Value {
    let mut new = for_editors(schema);
    let mut text = description(schema).to_owned();
    let Entry { range, default, .. } = Entry::of(schema);
    for (mark, said) in [("Range: ", range), ("Default: ", default)] {
        if let Some(said) = said.filter(|_| !text.contains(mark)) {
            text.push_str(&format!(" {mark}{said}."));
        }
    }
    new["description"] = text.trim().into();
    new
}

/// A choice of names; Taplo shows what each means.
fn choice(names: &[(&str, &str)]) -> Map<String, Value> {
    let (names, texts): (Vec<&str>, Vec<&str>) = names.iter().copied().unzip();
    Map::from_iter([
        ("type".into(), "string".into()),
        ("enum".into(), json!(names)),
        ("x-taplo".into(), json!({ "docs": { "enumValues": texts } })),
    ])
}

/// A table of several kinds.
fn by_kind(schema: &Value, variants: &[Variant<'_>]) -> Value {
    let own: Vec<(&str, Value)> =
        variants.iter().map(|one| (one.kind, for_editors(one.schema))).collect();
    let shared = shared(&own);
    let any = |keys: Vec<&String>| -> Map<String, Value> {
        keys.into_iter().map(|key| (key.clone(), true.into())).collect()
    };
    // Only a file that extends another omits the kind; then the keys of all kinds are allowed.
    let mut checks =
        json!({ "properties": any(shared.keys().collect()), "additionalProperties": false });
    for (kind, one) in own.iter().rev() {
        let keys = keys(one).into_iter().flatten();
        let exact = |(key, schema): (&String, &Value)| {
            let known = key == KIND || shared.get(key).is_some_and(|one| alike(one, schema));
            (key.clone(), if known { true.into() } else { schema.clone() })
        };
        let keys: Map<String, Value> = keys.map(exact).collect();
        checks = json!({
            "if": { "properties": { KIND: { "const": kind } }, "required": [KIND] },
            "then": { "properties": keys, "required": required(one), "additionalProperties": false },
            "else": checks
        });
    }
    let mut properties = shared;
    let kinds: Vec<(&str, &str)> =
        variants.iter().map(|one| (one.kind, description(one.schema))).collect();
    properties.insert(KIND.into(), choice(&kinds).into());
    checks["type"] = "object".into();
    checks["description"] = description(schema).into();
    checks["required"] = json!([KIND]);
    checks["properties"] = properties.into();
    checks
}

/// The keys of all kinds. If a key differs between kinds, all meanings are listed, and each kind checks its own.
fn shared(own: &[(&str, Value)]) -> Map<String, Value> {
    let mut all: Map<String, Value> = Map::new();
    for key in own.iter().flat_map(|(_, one)| keys(one).into_iter().flat_map(Map::keys)) {
        if key == KIND || all.contains_key(key) {
            continue;
        }
        let mut meanings: Vec<(&Value, Vec<&str>)> = Vec::new();
        for (kind, one) in own {
            let Some(schema) = keys(one).and_then(|keys| keys.get(key)) else { continue };
            match meanings.iter_mut().find(|(other, _)| *other == schema) {
                Some((_, kinds)) => kinds.push(kind),
                None => meanings.push((schema, vec![kind])),
            }
        }
        let merged = match &meanings[..] {
            [(one, _)] => (*one).clone(),
            [(first, _), ..] => {
                let text = |(schema, kinds): &(&Value, Vec<&str>)| {
                    format!("{}: {}", kinds.join(", "), description(schema))
                };
                let texts: Vec<String> = meanings.iter().map(text).collect();
                let same = meanings.iter().all(|(one, _)| alike(one, first));
                let mut merged = if same { (*first).clone() } else { json!({}) };
                merged["description"] = texts.join("\n\n").into();
                if let Some(merged) = merged.as_object_mut() {
                    merged.remove("default");
                }
                merged
            }
            [] => continue,
        };
        all.insert(key.clone(), merged);
    }
    all
}

/// Whether two schemas allow the same values.
fn alike(one: &Value, other: &Value) -> bool {
    let bare = |schema: &Value| {
        let mut schema = schema.clone();
        if let Some(schema) = schema.as_object_mut() {
            schema.retain(|key, _| !["description", "default"].contains(&key.as_str()));
        }
        schema
    };
    bare(one) == bare(other)
}

/// Makes all keys optional, except in lists.
fn lenient(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    schema.remove("required");
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("properties", Value::Object(keys)) => keys.values_mut().for_each(lenient),
            ("anyOf", Value::Array(all)) => all.iter_mut().for_each(lenient),
            ("then" | "else", one) => lenient(one),
            _ => {}
        }
    }
}

/// A schema that states only which keys are required; none if no key is.
fn needed(schema: &Value) -> Option<Value> {
    let mut new = Map::new();
    if let Some(required) = schema.get("required") {
        new.insert("required".into(), required.clone());
    }
    let below = |(key, schema): (&String, &Value)| Some((key.clone(), needed(schema)?));
    let keys: Map<String, Value> = keys(schema).into_iter().flatten().filter_map(below).collect();
    if !keys.is_empty() {
        new.insert("properties".into(), keys.into());
    }
    if let Some(condition) = schema.get("if") {
        new.insert("if".into(), condition.clone());
        for branch in ["then", "else"] {
            let needed = schema.get(branch).and_then(needed);
            new.extend(needed.map(|needed| (branch.to_owned(), needed)));
        }
    }
    (!new.is_empty()).then_some(new.into())
}

/// All keys of an experiment's schema, dotted.
fn dotted(experiment: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    flatten("", experiment, &mut all);
    all
}

/// Adds all keys of `schema` below `path`, dotted. A table itself may be any table: its keys have their own entries.
fn flatten(path: &str, schema: &Value, all: &mut Map<String, Value>) {
    let forms = schema.get("anyOf").and_then(Value::as_array);
    for table in forms.into_iter().flatten().chain([schema]) {
        for (key, schema) in keys(table).into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let before = all.len();
            flatten(&path, schema, all);
            let table = all.len() > before;
            let own = json!({ "description": description(schema) });
            all.insert(path, if table { own } else { schema.clone() });
        }
    }
}
