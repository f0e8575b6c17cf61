//! Stage 4: the report.

use anyhow::{Context, Result};

use super::{Lab, probe};
use crate::report;
use crate::scores::RunScores;

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let text = std::fs::read(lab.folder.join(probe::SCORES)).context("cannot read scores.json")?;
    let scores: RunScores = serde_json::from_slice(&text).context("scores.json is broken")?;
    println!("{}", report::table(&scores));
    Ok(())
}
