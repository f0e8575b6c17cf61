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

impl Table {
    /// The table without those of the `columns` that have the same value in all rows, if there are several; and these
    /// values as a sentence.
    pub(super) fn without_common(mut self, columns: &[&str]) -> (Self, Option<String>) {
        let mut common = Vec::new();
        for column in columns {
            let Some(at) = self.head.iter().position(|name| name == column) else { continue };
            let values: Vec<&String> =
                self.rows.iter().filter_map(|row| row.cells.get(at)).collect();
            let [first, others @ ..] = values.as_slice() else { continue };
            if others.is_empty() || others.iter().any(|other| other != first) {
                continue;
            }
            common.push(format!("{column}: {first}."));
            self.head.remove(at);
            self.rows.iter_mut().for_each(|row| drop(row.cells.remove(at)));
        }
        let common = (!common.is_empty()).then(|| format!("In all rows: {}", common.join(" ")));
        (self, common)
    }
}

impl Row {
    /// The cells with non-breaking spaces in their intervals.
    pub(super) fn unbroken(&self) -> Vec<String> {
        let kept = |cell: &String| {
            let cell = cell.replace(" ± ", "\u{a0}±\u{a0}").replace(" to ", "\u{a0}to\u{a0}");
            let mut inside = false;
            let whole = |c: char| {
                inside = c == '[' || inside && c != ']';
                if inside && c == ' ' { '\u{a0}' } else { c }
            };
            cell.chars().map(whole).collect()
        };
        self.cells.iter().map(kept).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 3]]) -> Table {
        let row = |cells: &[&str; 3]| Row {
            cells: cells.map(str::to_owned).into(),
            anchor: String::new(),
        };
        Table {
            head: ["a", "b", "c"].map(str::to_owned).into(),
            rows: rows.iter().map(row).collect(),
        }
    }

    #[test]
    fn what_all_rows_share_is_said_once() {
        let (left, common) =
            table(&[["1", "x", "2"], ["1", "x", "3"]]).without_common(&["b", "c", "d"]);
        assert_eq!(common.as_deref(), Some("In all rows: b: x."));
        assert_eq!((left.head.join(""), left.rows[1].cells.join("")), ("ac".into(), "13".into()));
        let (left, common) = table(&[["1", "x", "2"]]).without_common(&["b"]);
        assert_eq!((left.head.len(), common), (3, None));
    }

    #[test]
    fn intervals_do_not_break() {
        let row = &table(&[["1 [2, 3] pairs", "4 ± 5", "6 to 7"]]).rows[0];
        assert_eq!(row.unbroken(), ["1 [2,\u{a0}3] pairs", "4\u{a0}±\u{a0}5", "6\u{a0}to\u{a0}7"]);
    }
}
