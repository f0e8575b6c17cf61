//! A key of a table in words: its type, range, default and meaning.

use serde_json::Value;

use super::shape::{description, forms, names, variants};

/// The description of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub kind: String,
    /// None if the key has no default or is required.
    pub default: Option<String>,
    pub range: Option<String>,
    pub meaning: String,
}

impl Entry {
    /// Describes the key that has `schema`.
    pub fn of(schema: &Value) -> Self {
        let (text, default) = cut(description(schema), "Default: ");
        let (text, range) = cut(text, "Range: ");
        let meaning = format!("{}{}", text.replace("\n\n", " "), choices(schema));
        Self {
            kind: type_of(schema),
            default: default.or_else(|| schema.get("default").and_then(shown)),
            range: range.or_else(|| range_of(schema)),
            meaning,
        }
    }
}

/// The allowed names of a value, each with its meaning.
fn choices(schema: &Value) -> String {
    let schema = schema.get("items").unwrap_or(schema);
    let forms: Vec<&Value> = forms(schema).map_or(vec![schema], |all| all.iter().collect());
    let all: Vec<_> = forms.into_iter().filter_map(names).flatten().collect();
    // A meaning may only repeat the name.
    let said = |(name, of_name): &(&str, &str)| {
        let text = of_name.to_lowercase();
        !of_name.is_empty() && text.trim_end_matches('.') != name.replace('-', " ")
    };
    if all.iter().any(said) {
        return all.iter().map(|(name, of_name)| format!(" `{name}`: {of_name}")).collect();
    }
    let names: Vec<String> = all.iter().map(|(name, _)| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!(" One of {}.", names.join(", ")) }
}

/// `text` before `mark`, and the sentence after it.
fn cut<'a>(text: &'a str, mark: &str) -> (&'a str, Option<String>) {
    match text.rfind(mark) {
        None => (text, None),
        Some(at) => {
            let sentence = text[at + mark.len()..].trim().trim_end_matches('.');
            let value = sentence.parse::<f64>().is_ok() || sentence.parse::<bool>().is_ok();
            let sentence = if value { format!("`{sentence}`") } else { sentence.to_owned() };
            (text[..at].trim_end(), Some(sentence))
        }
    }
}

/// The type of a value, in a word or two.
pub(super) fn type_of(schema: &Value) -> String {
    if variants(schema).is_some() {
        return "table".into();
    }
    if names(schema).is_some() {
        return "name".into();
    }
    if let Some(all) = forms(schema) {
        let mut types: Vec<String> = Vec::new();
        for one in all.iter().map(type_of) {
            if !types.contains(&one) {
                types.push(one);
            }
        }
        return types.join(" or ");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => list_of(schema),
        Some("object") => "table".into(),
        Some(name) => name.into(),
        None => "any value".into(),
    }
}

/// The type of a list, with that of its items.
fn list_of(schema: &Value) -> String {
    let item = match schema.get("items") {
        Some(Value::Array(items)) => items.first(),
        items => items,
    };
    let item = item.map_or_else(|| "any value".into(), type_of);
    let of = match item.as_str() {
        "any value" => "values".to_owned(),
        one => format!("{one}s"),
    };
    match schema.get("maxItems").filter(|most| schema.get("minItems") == Some(*most)) {
        Some(count) => format!("list of {count} {of}"),
        None => format!("list of {of}"),
    }
}

/// The range of a number, or of the numbers of a list.
fn range_of(schema: &Value) -> Option<String> {
    if let Some(items) = schema.get("items") {
        let item = items.as_array().map_or(Some(items), |items| items.first())?;
        return range_of(item).map(|range| format!("each {range}"));
    }
    let bound = |key: &str| schema.get(key).and_then(number);
    let least = bound("minimum");
    let above = bound("exclusiveMinimum");
    match (least, above, bound("maximum"), bound("exclusiveMaximum")) {
        (Some(least), _, Some(most), _) => Some(format!("{least} to {most}")),
        (Some(least), _, _, Some(below)) => Some(format!("{least} to below {below}")),
        (Some(least), ..) => Some(format!("{least} or more")),
        (_, Some(above), Some(most), _) => Some(format!("above {above}, at most {most}")),
        (_, Some(above), _, Some(below)) => Some(format!("above {above}, below {below}")),
        (_, Some(above), ..) => Some(format!("above {above}")),
        (_, _, Some(most), _) => Some(format!("at most {most}")),
        _ => None,
    }
}

/// A bound in readable form: 65,536.
fn number(value: &Value) -> Option<String> {
    if let Some(whole) = value.as_u64().or_else(|| whole(value.as_f64()?)) {
        if whole == i64::MAX as u64 {
            return Some("2^63 - 1".into());
        }
        let digits = whole.to_string();
        let groups: Vec<&str> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .filter_map(|group| std::str::from_utf8(group).ok())
            .collect();
        return Some(groups.join(","));
    }
    value.as_f64().map(|number| number.to_string())
}

/// The number as an integer, if it is whole, not negative and below 9e15 (about 2⁵³).
fn whole(number: f64) -> Option<u64> {
    let fits = (0.0..9.0e15).contains(&number) && number.fract() == 0.0;
    fits.then_some(number as u64)
}

/// A default as TOML; none for a table, whose keys have defaults of their own.
fn shown(value: &Value) -> Option<String> {
    if value.is_object() {
        return None;
    }
    toml::Value::try_from(value).ok().map(|value| format!("`{value}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sentences_of_a_doc_comment_come_before_what_the_type_says() {
        let schema = json!({
            "type": "integer", "minimum": 0, "maximum": 65536, "default": 3,
            "description": "Images in a step. Range: odd numbers. Default: those of `x = 0.5`."
        });
        let entry = Entry::of(&schema);
        assert_eq!(entry.meaning, "Images in a step.");
        assert_eq!(entry.range.as_deref(), Some("odd numbers"));
        assert_eq!(entry.default.as_deref(), Some("those of `x = 0.5`"));
        let schema = json!({
            "type": "array", "minItems": 2, "maxItems": 2, "default": [0.05, 1.0],
            "items": { "type": "number", "exclusiveMinimum": 0, "maximum": 65536 }
        });
        let entry = Entry::of(&schema);
        assert_eq!(entry.kind, "list of 2 numbers");
        assert_eq!(entry.range.as_deref(), Some("each above 0, at most 65,536"));
        assert_eq!(entry.default.as_deref(), Some("`[0.05, 1.0]`"));
    }
}
