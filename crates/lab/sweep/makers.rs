//! A sweep is one table: all its runs come from one commit, with one version of the numerics, on one instruction path.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::plan::{Plan, Run};
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
    let same = |name: &str, makers: &[MadeBy], this: &MadeBy| same(name, makers, this, elsewhere);
    let Some(experiment) = todo.first().map(|run| &run.experiment) else { return Ok(()) };
    let this = MadeBy::this(&experiment.device, experiment.pretrain.train.precision);
    for (run, scores) in done {
        let unknown = [MadeBy::unknown()];
        let makers = if scores.made_by.is_empty() { &unknown[..] } else { &scores.made_by };
        same(&run.name, makers, &this)?;
    }
    // Unfinished runs and their twins.
    let folders: BTreeSet<&str> =
        todo.iter().flat_map(|run| [run.name.as_str(), run.twin.as_str()]).collect();
    for folder in folders {
        if let Ok(manifest) = Manifest::read(&plan.out.join(folder).join("manifest.json")) {
            same(folder, &manifest.makers(), &this)?;
        }
    }
    Ok(())
}

/// The programs that made the figures of several runs, in words; none if they were all made by one.
pub(super) fn mixed<'a>(done: impl Iterator<Item = &'a RunScores>) -> Option<String> {
    let makers: BTreeSet<String> =
        done.flat_map(|scores| &scores.made_by).map(MadeBy::to_string).collect();
    (makers.len() > 1).then(|| makers.into_iter().collect::<Vec<_>>().join("; "))
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
