//! Configs: the tables of an experiment, and how TOML with `extends`, `unset` and `--set` becomes one that records
//! where each value was written.

mod attack;
mod deserialize;
mod error;
mod experiment;
mod fields;
mod home;
mod keys;
mod layers;
mod message;
mod mismatch;
mod nearest;
mod read;
mod schema;
mod sweep_file;
mod table;
mod tree;

pub use attack::AttackConfig;
pub(crate) use attack::check_poison;
pub use error::ConfigError;
pub use experiment::Experiment;
pub(crate) use experiment::{check_name, default_device};
pub(crate) use fields::{OfConfig, Wrong, of_defence};
pub(crate) use home::{expand_scan, expand_tables, expanded};
pub(crate) use keys::keep_only;
pub(crate) use layers::read_text;
pub(crate) use nearest::{meant, nearest};
pub(crate) use schema::{derived, experiment_schema, reference, sweep_schema};
pub(crate) use sweep_file::{Axis, SweepFile};
pub(crate) use table::{Document, Source};
pub(crate) use tree::{Node, Origin};
