//! The stages, one file each. A stage reads the results of an earlier one through that stage's file.

mod baseline;
mod check;
mod defend;
mod encoders;
mod features;
mod maps;
mod neighbours;
mod poison;
mod pretrain;
mod probe;
mod probes;
mod report;
mod report_events;
mod scan;
mod trigger_size;
mod unified;

use anyhow::Result;

use super::lab::Lab;
use super::until::Stage;

pub(crate) use features::read_out;

pub(crate) use unified::{Task, UnifiedProbe};

/// Runs the stages of `lab` in order, up to the last one requested.
pub(super) fn run_all(lab: &mut Lab) -> Result<()> {
    if lab.until >= Stage::Twin {
        check::before_training(lab)?;
    }
    type Run = fn(&mut Lab) -> Result<()>;
    let stages: [(Stage, Run); 8] = [
        (Stage::Poison, poison::run),
        (Stage::Twin, trigger_size::run),
        // And the backdoored model at the same time, if requested.
        (Stage::Twin, pretrain::run),
        (Stage::Defend, defend::run),
        (Stage::Probe, probe::run),
        (Stage::Scan, scan::run),
        (Stage::Maps, maps::run),
        (Stage::Report, report::run),
    ];
    let until = lab.until;
    stages.into_iter().filter(|(stage, _)| *stage <= until).try_for_each(|(_, run)| run(lab))
}
