//! Stage 1: which images are poisoned and how, in `poison.csv`.

use anyhow::Result;
use ssl_backdoor_data::poison_ledger;

use super::Lab;

pub(super) const LEDGER: &str = "poison.csv";

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let inputs = lab.inputs(&(
        &lab.experiment.data,
        &lab.experiment.poison,
        lab.attack.train.trigger.hash(),
        lab.experiment.poison.list.as_ref().map(|_| lab.attack.plan.ids().collect::<Vec<_>>()),
        lab.experiment.seed,
    ))?;
    lab.stage("poison", inputs, &[LEDGER], |lab, _| {
        let ledger = poison_ledger(&lab.splits, &lab.attack, &lab.experiment.poison.trigger)?;
        let text = ledger.to_csv(&lab.folder.join(LEDGER))?;
        lab.folder.write(LEDGER, text.as_bytes())
    })
}
