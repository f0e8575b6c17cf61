//! `sweep --collect`: the last step of a sweep whose runs were done elsewhere.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::plan::{Plan, SweepSource};
use super::{figures, makers};
use crate::report::{ReportOptions, report};

/// Copies the figures of all finished runs of the sweep `source` to the results folder and writes the report over
/// them there, or without such a folder among the run folders: `table.html`, `table.md` and `table.csv`. Prints the
/// tables, as JSON if `json` is set.
///
/// # Errors
/// A [`ConfigError`](crate::ConfigError) if the file is wrong; no run is finished, or, after the report is written, not
/// all are.
pub fn collect_sweep(source: &SweepSource, json: bool) -> Result<()> {
    let plan = Plan::read(source)?;
    let (mut done, mut left) = (Vec::new(), Vec::new());
    for run in &plan.runs {
        match figures::collect(&plan, run)? {
            Some(scores) => done.push((run, scores)),
            None => left.push(run.name.as_str()),
        }
    }
    let place = plan.results.as_ref().unwrap_or(&plan.out);
    if done.is_empty() {
        bail!("no run of the sweep {} is finished: see `sweep {source} --status`", plan.name);
    }
    let runs: Vec<PathBuf> = done.iter().map(|(run, _)| place.join(&run.name)).collect();
    let (out, planned) = (Some(place.clone()), Some(plan.runs.len()));
    report(&ReportOptions { runs, out, json, claims: plan.claims, planned })?;
    if let Some(makers) = makers::mixed(&done) {
        eprintln!(
            "warning: the runs were not all made by one program with the same CPU instructions ({makers}); the tables \
             separate numerics versions only"
        );
    }
    if !left.is_empty() {
        bail!(
            "{} of {} runs are not finished and not in the report: {}",
            left.len(),
            plan.runs.len(),
            left.join(", ")
        );
    }
    Ok(())
}
