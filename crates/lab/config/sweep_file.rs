//! The file of a sweep: a base config and axes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use toml::Value;

/// A sweep of ssl-backdoor: a base config and axes. Unknown keys are errors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SweepFile {
    /// Name of the sweep and of its folder. Range: letters, digits, `-`, `_` and `.`, not beginning with `.`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$"))]
    pub name: String,
    /// Config from which every run starts, relative to this file; a point may name another. Default: none.
    #[serde(default)]
    pub base: Option<PathBuf>,
    /// Folder of the run folders, relative to the current folder. Default: `runs/NAME`.
    #[serde(default)]
    pub out: Option<PathBuf>,
    /// Folder in which the figures of finished runs are kept, relative to the current folder. A run whose figures are there
    /// is not run again. Default: none.
    #[serde(default)]
    pub results: Option<PathBuf>,
    /// Whether the report on the sweep tests the claims of docs/claims.md. Set to `false` for a sweep that was not planned as
    /// a test of them. Default: `true`.
    #[serde(default = "yes")]
    pub claims: bool,
    /// Overrides of every run: a dotted key such as `"pretrain.epochs"`, and its value.
    #[serde(default)]
    #[schemars(schema_with = "overrides")]
    pub set: BTreeMap<String, Value>,
    /// The axes: every combination of their points is a run. The first axis changes slowest.
    pub axis: Vec<Axis>,
}

fn yes() -> bool {
    true
}

/// An axis of a sweep.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Axis {
    /// What changes, in a word; part of the names of the runs.
    pub name: String,
    /// The points. Needed, unless `key` and `values` are given.
    #[serde(default)]
    pub points: Vec<Point>,
    /// A dotted key that takes each of `values`, in place of `points`. Default: none.
    #[serde(default)]
    pub key: Option<String>,
    /// The values of `key`.
    #[serde(default)]
    #[schemars(schema_with = "any_values")]
    pub values: Vec<Value>,
}

/// A point of an axis.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    /// Part of the name of the run.
    pub name: String,
    /// Config from which the run starts in place of `base`, relative to the sweep file. Default: `base`.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// Overrides: a dotted key and its value.
    #[serde(default)]
    #[schemars(schema_with = "overrides")]
    pub set: BTreeMap<String, Value>,
    /// Dotted keys that are removed, after the overrides of earlier axes; an absent key is ignored.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// The schema of overrides: any values by dotted key.
fn overrides(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": true })
}

/// The schema of a list of any values.
fn any_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": true })
}
