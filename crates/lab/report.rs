//! The report of a run.

use crate::scores::RunScores;

/// The four cells of the paper's table as Markdown.
pub(crate) fn table(scores: &RunScores) -> String {
    serde_json::to_string_pretty(scores).unwrap_or_default()
}
