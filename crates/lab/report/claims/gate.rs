//! The gate: whether the victims have learned enough for a claim of robustness.

use super::claim::{Claim, ROBUST, VULNERABLE};
use super::pairs::pairs;
use crate::record::{CLEAN, Images, RunScores, UNTRAINED};
use crate::report::group::Group;
use crate::report::learned::{ABOVE_PIXELS, WEAK, below};
use crate::report::table::Row;

/// The runs of `group` with different clean twins: one for each seed.
fn twins<'a>(group: &Group<'a>) -> Vec<&'a RunScores> {
    let mut twins: Vec<&RunScores> = Vec::new();
    for &(_, run, _) in &group.runs {
        if twins.iter().all(|other| other.seed != run.seed) {
            twins.push(run);
        }
    }
    twins
}

/// Whether half or more of the group's clean twins are below the gate, or cannot be judged.
pub(super) fn closed(group: &Group<'_>) -> bool {
    let twins = twins(group);
    let short = twins.iter().filter(|run| below(run) != Some(false)).count();
    2 * short >= twins.len().max(1)
}

/// What the victims have learned.
pub(super) fn claim(groups: &[&Group<'_>]) -> Option<Claim> {
    let named = |group: &&&Group<'_>| {
        let method = group.setting.method.as_str();
        VULNERABLE.iter().chain(&ROBUST).any(|name| *name == method) && pairs(group).len() >= 2
    };
    let range = |values: Vec<f64>| {
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
        match values.len() {
            0 => "-".to_owned(),
            _ => format!("{low:.1} to {high:.1}"),
        }
    };
    let row = |group: &&Group<'_>| {
        let twins = twins(group);
        let acc = |model| {
            range(twins.iter().filter_map(|run| Some(run.get(model, Images::Clean)?.acc)).collect())
        };
        let short = twins.iter().filter(|run| below(run) != Some(false)).count();
        let cells = vec![
            group.setting.method.clone(),
            twins.len().to_string(),
            range(twins.iter().filter_map(|run| run.raw_pixels).collect()),
            acc(UNTRAINED),
            acc(CLEAN),
            short.to_string(),
            if closed(group) { "below" } else { "passed" }.into(),
        ];
        Row { cells, anchor: group.anchor() }
    };
    let rows: Vec<Row> = groups.iter().filter(named).map(row).collect();
    Claim::new(
        "What the victims have learned",
        format!(
            "Accuracy on clean images, in percent, from the lowest to the highest clean twin. A clean twin passes the gate \
             if it is more accurate than the untrained encoder and, except for {}, at least {ABOVE_PIXELS:.0} points above a \
             probe on raw pixels, or half of what this probe lacks to 100 % if that is less. If half or more of a method's twins are below, it cannot be called robust.",
            WEAK.join(" and ")
        ),
        &["Method", "Twins", "Raw pixels", "Untrained", "Clean twin", "Below the gate", "Gate"],
        rows,
    )
}
