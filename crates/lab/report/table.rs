//! Tables of a report.

/// A table: its head and its rows.
pub(super) struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Row>,
}

/// Cells, and the anchor of their first run in the list of runs.
pub(super) struct Row {
    pub cells: Vec<String>,
    pub anchor: String,
}
