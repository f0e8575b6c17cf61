//! The forms of a derived schema: tables, tables with several kinds, and names.

use serde_json::{Map, Value};

/// The key that determines the kind of a table.
pub(super) const KIND: &str = "kind";

/// The keys of a table and their schemas.
pub(super) type Keys = Map<String, Value>;

/// A kind of a table, named by the value of `kind`.
pub(super) struct Variant<'a> {
    pub kind: &'a str,
    pub schema: &'a Value,
}

/// The kinds of a table that has several.
pub(super) fn variants(schema: &Value) -> Option<Vec<Variant<'_>>> {
    let all = schema.get("oneOf")?.as_array()?;
    let of = |schema| Some(Variant { kind: kind(schema)?, schema });
    all.iter().map(of).collect()
}

fn kind(schema: &Value) -> Option<&str> {
    keys(schema)?.get(KIND)?.get("const")?.as_str()
}

/// The keys of a table.
pub(super) fn keys(schema: &Value) -> Option<&Keys> {
    schema.get("properties")?.as_object()
}

/// The required keys of a table.
pub(super) fn required(schema: &Value) -> Vec<&str> {
    let all = schema.get("required").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The text of a schema.
pub(super) fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The allowed names of a value, each with its meaning, if nothing else is allowed.
pub(super) fn names(schema: &Value) -> Option<Vec<(&str, &str)>> {
    if let Some(all) = schema.get("enum") {
        return all.as_array()?.iter().map(|name| Some((name.as_str()?, ""))).collect();
    }
    if let Some(name) = schema.get("const") {
        return Some(vec![(name.as_str()?, description(schema))]);
    }
    let all = schema.get("oneOf")?.as_array()?;
    let lists: Option<Vec<_>> = all.iter().map(names).collect();
    Some(lists?.into_iter().flatten().collect())
}

/// The forms of a value that has several.
pub(super) fn forms(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()
}
