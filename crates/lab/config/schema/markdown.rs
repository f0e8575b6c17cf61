//! docs/configuration.md: every key of a config file, table by table.

use serde_json::{Value, json};

use super::derived;
use super::entry::Entry;
use super::methods;
use super::shape::{KIND, Keys, description, forms, keys, required, variants};
use crate::config::Experiment;

const HEAD: &str = "\
<!-- Written by `ssl-backdoor schema --markdown`; do not edit. The texts are the doc comments of the config types. -->

# Configuration

An experiment is a TOML file that `ssl-backdoor run` reads; [a sweep](#sweep-files) is a TOML file that
`ssl-backdoor sweep` reads. This page lists every key. An unknown key is an error.

- **Start from a template.** `ssl-backdoor init` writes a config for your images; `configs/` has more.
- **Reuse a config.** `extends = \"base.toml\"` takes every key from another file, relative to this one, that this file does
  not set. Tables are merged key by key; a table with a different `kind` replaces the whole table, and a list the whole list.
  `unset = [\"defend\", \"poison.rate\"]` leaves out keys of the other file; this file may set them anew.
- **Override a key** on the command line with `--set`, for example `--set pretrain.epochs=20`.
- **Complete and check keys in an editor.** The first line of a config names its schema:
  `#:schema ../experiment.schema.json`. Editors with Taplo, for example Visual Studio Code with *Even Better TOML*, then
  complete keys, show these texts and mark errors. `ssl-backdoor schema` prints the schema.
- **Watch a training.** With `tensorboard = true`, a run writes event files: `tensorboard --logdir runs` shows them while it
  trains, and `wandb sync --sync-tensorboard runs/NAME/backdoored` uploads them to Weights & Biases.

In a table with a key `kind`, the other keys depend on the kind. A fraction is written as a number: 0.5 is 50 %.

Paths may begin with `~`. Relative paths are relative to the current folder, except those of other configs (`extends`, `base`
and `config`), which are relative to the file that names them.

The environment variable `SSL_BACKDOOR_KERNELS` forces the CPU instructions: `avx512bf16` (for bf16), `avx512`, `avx2`,
`portable`, or `off` for plain Burn, which computes only in f32. The bytes of a result depend on them.
";

const SWEEP: &str = "\
## Sweep files

Every combination of the points of all axes is a run.
";

/// The page, made from `sweep`, the schema derived from the type of a sweep file, and from that of an experiment.
pub(crate) fn reference(sweep: &Value) -> String {
    let experiment = derived::<Experiment>();
    let mut page = format!("{HEAD}\n## Experiment files\n");
    let layers = [
        "| `extends` | string | none |  | Path of the config that this one extends, relative to this file. |",
        "| `unset` | list of strings | `[]` |  | Dotted keys of the extended config to leave out; each must be there. |",
    ];
    page.push_str(&table_of(&experiment, &layers.map(str::to_owned)));
    for (name, schema) in ordered(&experiment) {
        let mut sections = Vec::new();
        walk(name, schema, &mut sections);
        if !sections.is_empty() {
            page.push_str(&format!("\n## `[{name}]`\n\n{}\n", text(schema)));
        }
        render(&sections, &mut page);
    }
    page.push_str(&format!("\n{SWEEP}{}", table_of(sweep, &[])));
    let mut sections = Vec::new();
    for (name, schema) in keys(sweep).into_iter().flatten() {
        walk(name, schema, &mut sections);
    }
    render(&sections, &mut page);
    page
}

/// Keys that belong together: of a table, or of some kinds of a table, at one path or several.
struct Section {
    paths: Vec<String>,
    kinds: Vec<String>,
    /// The texts before the keys, each with the path that it is about.
    texts: Vec<(String, String)>,
    /// The keys as a table, or the kinds.
    rows: String,
}

impl Section {
    /// The keys of the table at `path`, of any kind.
    fn whole(path: &str, text: String, rows: String) -> Self {
        let texts = if text.is_empty() { Vec::new() } else { vec![(path.into(), text)] };
        Self { paths: vec![path.into()], kinds: Vec::new(), texts, rows }
    }
}

/// Adds the sections of `schema`, which is at `path`, and of the tables in it.
fn walk(path: &str, schema: &Value, sections: &mut Vec<Section>) {
    if let Some(variants) = variants(schema) {
        let mut rows = String::from("\n| `kind` | meaning |\n| --- | --- |\n");
        for one in &variants {
            rows.push_str(&format!("| `{}` | {} |\n", one.kind, cell(description(one.schema))));
        }
        if path == "pretrain.method" {
            rows.push_str(&training(variants.iter().map(|one| one.kind)));
        }
        add(sections, Section::whole(path, text(schema), rows));
        for one in &variants {
            let kinds = vec![one.kind.to_owned()];
            let rows = table_of(one.schema, &[]);
            add(sections, Section { kinds, ..Section::whole(path, String::new(), rows) });
        }
        variants.iter().for_each(|one| below(path, keys(one.schema), sections));
    } else if let Some(own) = keys(schema) {
        let rows = table_of(schema, &[]);
        add(sections, Section::whole(path, text(schema), rows));
        below(path, Some(own), sections);
    } else if let Some(items) = schema.get("items") {
        walk(path, items, sections);
    } else {
        let tables: Vec<&Value> = forms(schema)
            .into_iter()
            .flatten()
            .filter(|form| form.get("items").is_none())
            .collect();
        let plain: Vec<&Keys> = tables.iter().filter_map(|form| keys(form)).collect();
        match &plain[..] {
            [_, _, ..] => {
                let all = plain.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone()));
                let either = json!({ "properties": all.collect::<Keys>() });
                let (rows, text) =
                    (table_of(&either, &[]), "A number, or a table with one of these keys.");
                add(sections, Section::whole(path, text.into(), rows));
            }
            [own] if schema.get("oneOf").is_some() => {
                // One name holds a value and the others do not: the row has the text of that name.
                let named = |(key, below): (&String, &Value)| {
                    let mut row = below.clone();
                    let form = tables.iter().find(|form| keys(form).is_some());
                    row["description"] = form.map_or("", |form| description(form)).into();
                    (key.clone(), row)
                };
                let form = json!({ "properties": own.iter().map(named).collect::<Keys>() });
                add(sections, Section::whole(path, text(schema), table_of(&form, &[])));
                below(path, Some(own), sections);
            }
            _ => tables.into_iter().for_each(|form| walk(path, form, sections)),
        }
    }
}

/// Adds the sections of the tables among `keys`.
fn below(path: &str, keys: Option<&Keys>, sections: &mut Vec<Section>) {
    for (key, schema) in keys.into_iter().flatten() {
        walk(&format!("{path}.{key}"), schema, sections);
    }
}

/// Adds a section, or adds its path and kinds to a section with the same rows.
fn add(sections: &mut Vec<Section>, new: Section) {
    if new.rows.is_empty() {
        return;
    }
    let same = sections.iter_mut().find(|old| {
        let at = old.paths == new.paths || old.kinds == new.kinds;
        at && old.rows == new.rows && old.kinds.is_empty() == new.kinds.is_empty()
    });
    let Some(old) = same else { return sections.push(new) };
    for (path, text) in new.texts {
        if !old.texts.iter().any(|(_, old)| *old == text) {
            old.texts.push((path, text));
        }
    }
    for (old, new) in [(&mut old.paths, new.paths), (&mut old.kinds, new.kinds)] {
        for one in new {
            if !old.contains(&one) {
                old.push(one);
            }
        }
    }
}

/// A text with the last key of the path that it is about.
fn about((path, text): &(String, String)) -> String {
    let key = path.rsplit('.').next().unwrap_or(path);
    format!("`{key}`: {text}")
}

fn render(sections: &[Section], page: &mut String) {
    let quoted =
        |all: &[String]| all.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ");
    for section in sections {
        let top = section.kinds.is_empty() && section.paths.iter().all(|path| !path.contains('.'));
        // The text of a top-level table is already under its heading.
        let named = !top || page.contains("\n## Sweep files");
        if named {
            page.push_str(&format!("\n### {}", quoted(&section.paths)));
            if !section.kinds.is_empty() {
                page.push_str(&format!(": {}", quoted(&section.kinds)));
            }
            page.push('\n');
            let text = match &section.texts[..] {
                [(_, text)] => text.clone(),
                texts => texts.iter().map(about).collect::<Vec<_>>().join(" "),
            };
            if !text.is_empty() {
                page.push_str(&format!("\n{text}\n"));
            }
        }
        page.push_str(&section.rows);
    }
}

/// The keys of a table, required ones first; `more` are extra rows. Empty if there are no rows.
fn table_of(schema: &Value, more: &[String]) -> String {
    let mut rows: Vec<String> = Vec::new();
    let needed = required(schema);
    for (key, schema) in ordered(schema) {
        let entry = Entry::of(schema);
        let default = match needed.contains(&key.as_str()) {
            true => "required".into(),
            false => entry.default.unwrap_or_default(),
        };
        let range = entry.range.unwrap_or_default();
        rows.push(format!(
            "| `{key}` | {} | {} | {} | {} |",
            entry.kind,
            cell(&default),
            cell(&range),
            cell(&entry.meaning)
        ));
    }
    rows.extend_from_slice(more);
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "\n| key | type | default | range | meaning |\n| --- | --- | --- | --- | --- |\n{}\n",
        rows.join("\n")
    )
}

/// The keys of a table, required ones first.
fn ordered(schema: &Value) -> Vec<(&String, &Value)> {
    let needed = required(schema);
    let all = keys(schema).into_iter().flatten();
    let mut all: Vec<_> = all.filter(|(key, _)| *key != KIND || !is_tag(schema)).collect();
    all.sort_by_key(|(key, _)| needed.iter().position(|name| name == key).unwrap_or(usize::MAX));
    all
}

/// Whether `kind` is a constant of this table, which is then one kind of several.
fn is_tag(schema: &Value) -> bool {
    keys(schema).and_then(|keys| keys.get(KIND)?.get("const")).is_some()
}

/// The default training settings of each method.
fn training<'a>(kinds: impl Iterator<Item = &'a str>) -> String {
    let head: Vec<String> = methods::SHOWN.iter().map(|key| format!("`{key}`")).collect();
    let mut text = format!(
        "\nDefaults of the keys of `[pretrain]` for each method, for a training of {} epochs:\n\n\
         | `kind` | learning rate | {} |\n| --- | --- |{}\n",
        methods::EPOCHS,
        head.join(" | "),
        " --- |".repeat(head.len())
    );
    for kind in kinds {
        let settings = methods::defaults(kind).unwrap_or_default();
        text.push_str(&format!("| `{kind}` | {} |\n", settings.join(" | ")));
    }
    text
}

/// The text of a table, unwrapped: Markdown wraps it.
fn text(schema: &Value) -> String {
    Entry::of(schema).meaning
}

/// Text escaped for a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
