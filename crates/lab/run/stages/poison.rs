//! Stage 1: which images are poisoned and how, in `poison.csv`.

use anyhow::{Context, Result};
use ssl_backdoor_data::poison_ledger;
use ssl_backdoor_trigger::Ledger;

use crate::record::{Artefact, StageId, hash};
use crate::run::lab::Lab;
use crate::run::selection::told;

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    if lab.attack.recompress && !lab.splits.exports_jpegs() {
        eprintln!(
            "note: poison.recompress = true has no effect: no image is named .jpg, .jpeg, .jpe or .jfif, and all other images are \
             exported without loss"
        );
    }
    // A list may have changed, and so may the choice of a rule.
    let poison = &lab.experiment.poison;
    let named = poison.list.is_some() || poison.select.is_some();
    let listed = named.then(|| lab.attack.plan.ids().collect::<Vec<_>>());
    if let Some(selected) = &lab.attack.selected {
        let count = lab.attack.plan.rates().count;
        eprintln!("{}", told(selected, count, &lab.splits.classes));
    }
    let inputs = lab
        .inputs()
        .with("training images", &lab.splits.fingerprint.train)?
        .with("source", &lab.splits.source(0))?
        .with("size", &lab.experiment.data.size())?
        .with("poison", &lab.experiment.poison)?
        .with("listed", &listed)?
        .with("trigger", &lab.attack.train.perturbation.hash())?
        .with("seed", &lab.experiment.seed)?;
    lab.stage(&StageId::Poison, &inputs, &[Artefact::Ledger], |lab, _| {
        let ledger = poison_ledger(&lab.splits, &lab.attack, &lab.experiment.poison)?;
        let text = ledger.to_csv(&lab.folder.join(Artefact::Ledger))?;
        lab.folder.write(Artefact::Ledger, text.as_bytes())
    })
}

/// Hash of the poisoned images and their pixels, independent of the location of the originals.
pub(super) fn outcome(lab: &Lab) -> Result<String> {
    let path = lab.path(&Artefact::Ledger);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let Ledger { head, rows } = Ledger::parse(&text, &path)?;
    let pixels: Vec<_> = rows.iter().map(|row| (row.image_id, &row.output_hash)).collect();
    Ok(hash(serde_json::to_string(&(head.recompress, pixels))?.as_bytes()))
}
