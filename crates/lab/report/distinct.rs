//! What distinguishes settings that a table or a chart would otherwise show alike: the keys of their configs that differ.

use toml::{Table, Value};

use super::setting::Setting;

/// The key of a setting without a config.
const UNKNOWN: &str = "config";
/// Longest value shown, in characters.
const SHOWN: usize = 60;

/// For each row, given by its label and its setting, the keys and values that tell it from the rows with the same label;
/// empty if there is no other.
pub(super) fn distinctions(rows: &[(String, &Setting)]) -> Vec<String> {
    let trees: Vec<Value> = rows.iter().map(|(_, setting)| setting.tree()).collect();
    let of = |(own, (label, _)): (usize, &(String, &Setting))| {
        let same = rows.iter().zip(&trees).filter(|((other, _), _)| other == label);
        let alike: Vec<Option<&Value>> = same.map(|(_, tree)| Some(tree)).collect();
        let mut paths = Vec::new();
        differing(&alike, &mut Vec::new(), &mut paths);
        if alike.iter().flatten().any(|tree| tree.get(UNKNOWN).is_some()) {
            // Nothing else can be compared with a setting that has no config.
            paths = [UNKNOWN, "eval", "numerics"].map(|key| vec![key.to_owned()]).into();
        }
        let told = paths.iter().map(|path| match at(&trees[own], path) {
            Some(value) => format!("{} = {}", path.join("."), shown(value)),
            None => format!("no {}", path.join(".")),
        });
        told.collect::<Vec<_>>().join(", ")
    };
    rows.iter().enumerate().map(of).collect()
}

/// The labels of the rows, each with its distinction.
pub(super) fn distinct_labels(rows: &[(String, &Setting)]) -> Vec<String> {
    let own = rows.iter().zip(distinctions(rows));
    own.map(|((label, _), distinction)| with(label, &distinction)).collect()
}

/// `label` with a `distinction`, which may be empty.
pub(super) fn with(label: &str, distinction: &str) -> String {
    if distinction.is_empty() { label.to_owned() } else { format!("{label}, {distinction}") }
}

/// Adds the paths at which the `values` differ: as far down as they are tables of one kind, or lists of as many tables.
fn differing(values: &[Option<&Value>], path: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|value| value == first) {
        return;
    }
    let tables: Option<Vec<&Table>> =
        values.iter().map(|value| value.as_ref()?.as_table()).collect();
    let lists: Option<Vec<&Vec<Value>>> =
        values.iter().map(|value| value.as_ref()?.as_array()).collect();
    let mut inner = |key: String, values: &[Option<&Value>]| {
        path.push(key);
        differing(values, path, paths);
        path.pop();
    };
    match (tables, lists) {
        (Some(tables), _) if all_same(tables.iter().map(|table| table.get("kind"))) => {
            let mut keys: Vec<&String> = tables.iter().flat_map(|table| table.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let values: Vec<_> = tables.iter().map(|table| table.get(key)).collect();
                inner(key.clone(), &values);
            }
        }
        (_, Some(lists))
            if all_same(lists.iter().map(|list| list.len()))
                && lists.iter().all(|list| list.iter().all(Value::is_table)) =>
        {
            for i in 0..lists[0].len() {
                let values: Vec<_> = lists.iter().map(|list| list.get(i)).collect();
                inner(i.to_string(), &values);
            }
        }
        _ => paths.push(path.clone()),
    }
}

fn all_same<T: PartialEq>(mut values: impl Iterator<Item = T>) -> bool {
    let first = values.next();
    values.all(|value| Some(value) == first)
}

/// The value at a path of keys and indices.
fn at<'v>(root: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(root, |value, step| match value {
        Value::Table(table) => table.get(step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The value as TOML; of one longer than [`SHOWN`] characters, its kind or its beginning.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let Some((end, _)) = text.char_indices().nth(SHOWN) else { return text };
    let kind = value.as_table().and_then(|table| table.get("kind"));
    match (kind, value) {
        (Some(kind), _) => format!("{{ kind = {kind}, … }}"),
        (None, Value::Array(list)) => {
            format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        (None, _) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(texts: &[&str]) -> Vec<String> {
        let trees: Vec<Value> =
            texts.iter().map(|text| Value::Table(text.parse().unwrap())).collect();
        let mut paths = Vec::new();
        differing(&trees.iter().map(Some).collect::<Vec<_>>(), &mut Vec::new(), &mut paths);
        paths.iter().map(|path| path.join(".")).collect()
    }

    #[test]
    fn only_what_differs_is_named_and_as_deep_as_kinds_agree() {
        let place = |text: &str| format!("rate = 1\nplace = {text}");
        let a = place("{ kind = \"random\", min = 0.0, max = 1.0 }");
        let b = place("{ kind = \"random\", min = 0.2, max = 1.0 }");
        let c = place("{ kind = \"center\" }");
        assert_eq!(paths(&[&a, &b]), ["place.min"]);
        assert_eq!(paths(&[&a, &b, &c]), ["place"]);
        assert_eq!(paths(&[&a, "rate = 1"]), ["place"]);
        assert_eq!(paths(&[&a, &a]), [""; 0]);
        assert_eq!(paths(&["crop = [0.1, 1.0]", "crop = [0.2, 1.0]"]), ["crop"]);
        let long: Table = format!("kind = \"x\"\ntext = \"{}\"", "a".repeat(80)).parse().unwrap();
        let long = Value::Table(long);
        assert_eq!(shown(&long), "{ kind = \"x\", … }");
        assert_eq!(shown(&Value::Array(vec![long.clone(), long])).matches("kind").count(), 2);
        let list =
            |n: &str| format!("[[defend]]\nkind = \"x\"\nsteps = {n}\n[[defend]]\nkind = \"y\"");
        assert_eq!(paths(&[&list("1"), &list("2")]), ["defend.0.steps"]);
    }
}
