//! Stage 1: which images are poisoned and how, in `poison.csv`.

use anyhow::Result;
use ssl_backdoor_data::poison_ledger;

use super::Lab;

pub(super) const LEDGER: &str = "poison.csv";

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let inputs =
        lab.inputs(&(&lab.experiment.data, &lab.experiment.poison, lab.experiment.seed))?;
    lab.stage("poison", inputs, &[LEDGER], |lab, _| {
        let splits = &lab.splits;
        let ledger = poison_ledger(&splits.train, &lab.plan, &lab.train_poison, &splits.name)?;
        let text = ledger.to_csv(&lab.folder.join(LEDGER))?;
        lab.folder.write(LEDGER, text.as_bytes())
    })
}
