//! The schema that `schemars` derives from a type, without the parts that TOML does not need.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The schema of `T`, draft 7, without references.
pub(crate) fn derived<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    clean(&mut schema);
    if let Value::Object(schema) = &mut schema {
        schema.remove("$schema");
        schema.remove("title");
    }
    schema
}

/// Cleans `schema` and the schemas in it: an absent value is an absent key, never `null`; descriptions are plain text.
fn clean(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    for (key, value) in schema.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(clean),
            ("anyOf" | "oneOf" | "allOf" | "items", Value::Array(all)) => {
                all.iter_mut().for_each(clean);
            }
            ("items", one) => clean(one),
            _ => {}
        }
    }
    schema.remove("format");
    schema.retain(|key, value| key != "default" || !value.is_null());
    without_null(schema);
    let text = schema.get("description").and_then(Value::as_str).map(plain);
    if let Some(text) = text {
        // The text about an absent key says more than a default computed on this machine.
        if text.contains("Default: ") {
            schema.remove("default");
        }
        schema.insert("description".into(), text.into());
    }
}

/// Removes `null` from the allowed types.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            schema.insert("type".into(), one);
        }
    }
    let Some(Value::Array(all)) = schema.get_mut("anyOf") else { return };
    all.retain(|one| one.get("type").is_none_or(|name| name != "null"));
    if let [Value::Object(one)] = &mut all[..] {
        let one = std::mem::take(one);
        schema.remove("anyOf");
        for (key, value) in one {
            schema.entry(key).or_insert(value);
        }
    }
}

/// A doc comment without line breaks in its paragraphs and without rustdoc links.
fn plain(doc: &str) -> String {
    let paragraphs: Vec<String> = doc.split("\n\n").map(|text| text.replace('\n', " ")).collect();
    let mut text = paragraphs.join("\n\n");
    while let Some(start) = text.find("[`") {
        let Some(end) = text[start..].find("`]").map(|end| start + end) else { break };
        let target = text[end + 2..].strip_prefix('(').and_then(|rest| rest.find(')'));
        let after = end + 2 + target.map_or(0, |length| length + 2);
        text = format!("{}{}{}", &text[..start], &text[start + 1..=end], &text[after..]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_line_breaks_are_no_part_of_a_description() {
        let doc = "As [`new`](Self::new) and\n[`x`] do.\n\nMore.";
        assert_eq!(plain(doc), "As `new` and `x` do.\n\nMore.");
    }
}
