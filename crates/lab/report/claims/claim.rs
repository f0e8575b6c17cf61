//! A claim and its table, and the constants of all claims.

use serde::Serialize;

use crate::report::table::{Row, Table};

/// Methods that pull two augmented views together; the paper finds them vulnerable.
pub(super) const VULNERABLE: [&str; 3] = ["moco-v2", "byol", "msf"];
/// Methods that do not; the paper finds them robust.
pub(super) const ROBUST: [&str; 3] = ["jigsaw", "rotnet", "mae"];
/// p-values below this are significant.
pub(super) const LEVEL: f64 = 0.05;
/// Points within which two accuracies, or two ASRs, are equivalent, and below which a net ASR counts as robust.
pub(super) const MARGIN: f64 = 2.0;
/// Seed of the drawn resamples.
pub(super) const SEED: u64 = 0;

/// A claim, and its test on the runs.
#[derive(Serialize)]
pub(in crate::report) struct Claim {
    pub title: &'static str,
    /// The rule of its verdict.
    pub rule: String,
    #[serde(flatten)]
    pub table: Table,
}

impl Claim {
    /// None without rows.
    pub(super) fn new(
        title: &'static str,
        rule: String,
        head: &[&str],
        rows: Vec<Row>,
    ) -> Option<Self> {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        (!rows.is_empty()).then_some(Self { title, rule, table: Table { head, rows } })
    }
}

/// A p-value for a table.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

/// A figure with its interval.
pub(super) fn with_interval(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{value:.1} [{low:.1}, {high:.1}]")
}
