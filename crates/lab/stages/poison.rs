//! Stage 1: which images are poisoned and how, in `poison.csv`.

use anyhow::Result;
use ssl_backdoor_data::poison_ledger;

use super::Lab;

pub(super) const LEDGER: &str = "poison.csv";

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    if lab.attack.recompress && !lab.splits.exports_jpegs() {
        eprintln!(
            "note: poison.recompress = true changes nothing: no image is named .jpg or .jpeg, and an export of all others \
             is lossless"
        );
    }
    let inputs = lab.inputs(&(
        &lab.experiment.data,
        &lab.experiment.poison,
        lab.attack.train.trigger.hash(),
        lab.experiment.seed,
    ))?;
    lab.stage("poison", inputs, &[LEDGER], |lab, _| {
        let ledger = poison_ledger(&lab.splits, &lab.attack, &lab.experiment.poison.trigger)?;
        let text = ledger.to_csv(&lab.folder.join(LEDGER))?;
        lab.folder.write(LEDGER, text.as_bytes())
    })
}
