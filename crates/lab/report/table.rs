//! Tables of a report.

/// A table: its head and its rows.
pub(super) struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Row>,
}

/// Cells, and where in the list of runs those begin which they rest on.
pub(super) struct Row {
    pub cells: Vec<String>,
    pub anchor: String,
}
