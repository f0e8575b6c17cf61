//! Checks before training: whether the defences and scans can run on the data, and whether the scored and labelled
//! images can be read.

use anyhow::{Result, bail};
use ssl_backdoor_data::purpose;
use ssl_backdoor_data::{SampleSet, unreadable};
use ssl_backdoor_rng::ranked;

use super::{defend, scan};
use crate::config::Wrong;
use crate::record::StageId;
use crate::run::lab::Lab;
use crate::run::progress;

/// Largest number of images that are decoded; larger sets are sampled.
const DECODED: usize = 20_000;
/// Largest number of unreadable images that are named.
const NAMED: usize = 3;

pub(super) fn before_training(lab: &mut Lab) -> Result<()> {
    defend::check(lab)?;
    let wrong = |e| Wrong::about("scan", format!("scan: {e}"));
    scan::check(lab).map_err(|e| lab.experiment.source.wrong(wrong(e)))?;
    readable(lab)
}

/// Decodes the images that the run will score and label, once. Sets in memory are already decoded.
fn readable(lab: &mut Lab) -> Result<()> {
    if lab.splits.eval.files.is_none() {
        return Ok(());
    }
    let prints = &lab.splits.fingerprint;
    let curve = lab.experiment.probe.curve_every > 0;
    let inputs = lab
        .inputs()
        .with("images that may carry labels", &prints.labelled)?
        .with("scored images", &(&prints.eval, curve.then_some(&prints.dev)))?
        .with("labelled images", &lab.labelled)?;
    lab.stage(&StageId::CheckImages, &inputs, &[], |lab, _| {
        let splits = &lab.splits;
        let ids: Vec<u64> = lab.labelled.iter().flat_map(|of| &of.ids).copied().collect();
        decode(lab, "scored", &splits.prepared(&splits.eval))?;
        if curve {
            decode(lab, "dev", &splits.prepared(&splits.dev))?;
        }
        decode(lab, "labelled", &lab.images(&ids))
    })
}

/// Decodes the images of `set`, or a keyed sample of them.
fn decode(lab: &Lab, what: &str, set: &SampleSet) -> Result<()> {
    let mut some: Vec<u64> = (0..set.len() as u64).collect();
    if some.len() > DECODED {
        some = ranked(&some, lab.experiment.seed, purpose::HALVES, 1);
        some.truncate(DECODED);
    }
    let positions: Vec<usize> = some.into_iter().map(|i| i as usize).collect();
    let bad = unreadable(&**set, &positions, &format!("{what} images"), &progress::watch());
    if bad.is_empty() {
        eprintln!("check images: {} of {} {what} images decoded", positions.len(), set.len());
        return Ok(());
    }
    let named: Vec<String> = bad.iter().take(NAMED).map(|(_, error)| error.to_string()).collect();
    let more = if bad.len() > NAMED { "; …" } else { "" };
    bail!(
        "{} of {} {what} images cannot be read: {}{more}. Repair or remove them, or set data.on_corrupt = \"skip\"",
        bad.len(),
        positions.len(),
        named.join("; ")
    )
}
