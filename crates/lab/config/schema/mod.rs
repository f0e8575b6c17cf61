//! The allowed contents of a config file: a JSON Schema for editors and the page docs/configuration.md. Both are
//! generated from the types that read the file, with their doc comments.
//!
//! The doc comment of a field ends with `Range: …` and `Default: …` unless serde and the attributes of the field
//! state them.

mod derived;
mod editor;
mod entry;
#[cfg(test)]
mod known;
mod markdown;
mod methods;
mod shape;

pub(crate) use derived::derived;
pub(crate) use editor::{experiment_schema, sweep_schema};
pub(crate) use markdown::reference;
