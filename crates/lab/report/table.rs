//! Tables of a report.

use serde::Serialize;

/// A table: its head and its rows.
#[derive(Serialize)]
pub(super) struct Table {
    #[serde(rename = "columns")]
    pub head: Vec<String>,
    pub rows: Vec<Row>,
}

/// Cells, and the anchor of their first run in the list of runs.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Row {
    pub cells: Vec<String>,
    #[serde(skip)]
    pub anchor: String,
}
