//! A sweep is one table: all its runs come from one commit, with one version of the numerics, on one instruction path.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use super::plan::{Plan, Run};
use crate::config::Experiment;
use crate::device;
use crate::record::{MadeBy, Manifest, RunScores};

/// Checks that the existing parts of the sweep were made as this program would make the rest, on the CPU of this
/// machine or, if `elsewhere`, on that of any machine.
///
/// # Errors
/// A part was made by another program, and runs are left to do.
pub(super) fn check(
    plan: &Plan,
    todo: &[&Run],
    done: &[(&Run, RunScores)],
    elsewhere: bool,
) -> Result<()> {
    if todo.is_empty() {
        return Ok(());
    }
    // Device and precision, which a sweep may vary, decide the instruction path.
    let this =
        |run: &Run| MadeBy::this(&run.experiment.device, run.experiment.pretrain.train.precision);
    for (run, scores) in done {
        let unknown = [MadeBy::unknown()];
        let makers = if scores.made_by.is_empty() { &unknown[..] } else { &scores.made_by };
        same(&run.name, makers, &this(run), elsewhere)?;
    }
    // Unfinished runs and their twins.
    let folders: BTreeMap<&str, &Run> = todo
        .iter()
        .flat_map(|run| [(run.name.as_str(), *run), (run.twin.as_str(), *run)])
        .collect();
    for (folder, run) in folders {
        if let Ok(manifest) = Manifest::read(&plan.out.join(folder).join("manifest.json")) {
            same(folder, &manifest.makers(), &this(run), elsewhere)?;
        }
    }
    Ok(())
}

/// The programs that made the figures of several runs, in words; none if one program made them all, those of each device
/// and precision on one instruction path.
pub(super) fn mixed(done: &[(&Run, RunScores)]) -> Option<String> {
    let (mut programs, mut makers) = (BTreeSet::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for (run, scores) in done {
        let Experiment { device, pretrain, .. } = &run.experiment;
        let kind = format!("{} {:?}", device::backend(device), pretrain.train.precision);
        for made_by in &scores.made_by {
            programs.insert((made_by.numerics, made_by.commit.as_deref()));
            makers.entry(kind.clone()).or_default().insert(made_by.to_string());
        }
    }
    let mixed = programs.len() > 1 || makers.values().any(|of_kind| of_kind.len() > 1);
    let all: BTreeSet<String> = makers.into_values().flatten().collect();
    mixed.then(|| all.into_iter().collect::<Vec<_>>().join("; "))
}

fn same(name: &str, makers: &[MadeBy], this: &MadeBy, elsewhere: bool) -> Result<()> {
    let other = |made_by: &&MadeBy| match elsewhere {
        false => *made_by != this,
        true => (made_by.numerics, &made_by.commit) != (this.numerics, &this.commit),
    };
    match makers.iter().find(other) {
        None => Ok(()),
        Some(other) => bail!(
            "{name} was made by another program ({other}) than this one ({this}), and the runs of a sweep must not be \
             mixed: continue with that program, or name other folders with --out and --results"
        ),
    }
}
