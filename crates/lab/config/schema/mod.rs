//! What a config file may contain, as data: a JSON Schema for editors and the page docs/configuration.md. Both are made of
//! the types that read the file, with their doc comments.
//!
//! A doc comment of a field ends with `Range: …` and `Default: …` where serde and the attributes of the field do not say
//! it.

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
