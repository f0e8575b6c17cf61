//! The claims of the paper as hypotheses, each with a figure, an interval, a p-value and a verdict.
//!
//! The unit is the pair of target and trigger: its figure is the mean over its training seeds. `docs/claims.md` says what
//! each claim tests and by which rule.

mod attack;
mod defence;
mod gate;
mod pairs;
#[cfg(test)]
mod tests;

use super::group::Group;
use super::many::{Row, Table};

/// Methods that pull two augmented views together; the paper finds them vulnerable.
const VULNERABLE: [&str; 3] = ["moco-v2", "byol", "msf"];
/// Methods that do not; the paper finds them robust.
const ROBUST: [&str; 3] = ["jigsaw", "rotnet", "mae"];
/// p-values below are significant.
const LEVEL: f64 = 0.05;
/// Points within which two accuracies, or two ASRs, are equivalent, and below which a net ASR is that of a robust method.
const MARGIN: f64 = 2.0;
/// Seed of the drawn resamples.
const SEED: u64 = 0;

/// A claim: what it says, and what the runs say of it.
pub(super) struct Claim {
    pub title: &'static str,
    /// The rule of its verdict.
    pub rule: String,
    pub table: Table,
}

impl Claim {
    /// None without rows.
    fn new(title: &'static str, rule: String, head: &[&str], rows: Vec<Row>) -> Option<Self> {
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        (!rows.is_empty()).then_some(Self { title, rule, table: Table { head, rows } })
    }
}

/// The claims that the runs of `groups` can test: those on the attack where each method has one setting, those on the
/// defence for each setting with a defence.
pub(super) fn claims(groups: &[Group<'_>]) -> Vec<Claim> {
    let attacked: Vec<&Group<'_>> =
        groups.iter().filter(|g| g.setting.targeted && g.defended().is_empty()).collect();
    let mut seen = Vec::new();
    let one_each = attacked.iter().all(|group| {
        let new = !seen.contains(&&group.setting.method);
        seen.push(&group.setting.method);
        new
    });
    let mut claims = Vec::new();
    if one_each {
        claims.extend(gate::claim(&attacked));
        claims.extend(attack::claims(&attacked));
    }
    let defended: Vec<&Group<'_>> =
        groups.iter().filter(|g| g.setting.targeted && !g.defended().is_empty()).collect();
    claims.extend(defence::claims(&defended));
    claims
}

/// A p-value for a table.
fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

/// A figure with its interval.
fn with_interval(value: f64, [low, high]: [f64; 2]) -> String {
    format!("{value:.1} [{low:.1}, {high:.1}]")
}
