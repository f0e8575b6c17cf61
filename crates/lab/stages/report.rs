//! Stage 5: `report.html`, `report.md` and the table on the terminal.

use anyhow::{Context, Result};
use serde_json::Value;

use super::inputs::Inputs;
use super::pretrain::metrics_file;
use super::{Lab, maps, probe};
use crate::made_by::MadeBy;
use crate::manifest::BURN;
use crate::report::{self, Sources};
use crate::scores::{BACKDOORED, CLEAN, RunScores};

const HTML: &str = "report.html";
const MARKDOWN: &str = "report.md";

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let metrics = [CLEAN, BACKDOORED].map(metrics_file);
    let inputs = Inputs::of(lab)
        .with("config", &lab.experiment)?
        .with("scores", &lab.artefact(probe::SCORES)?)?
        .with("metrics", &[lab.artefact(&metrics[0])?, lab.artefact(&metrics[1])?])?
        .with("feature maps", &lab.artefact(maps::MAPS)?)?;
    lab.stage("report", &inputs, &[HTML, MARKDOWN], |lab, _| write(lab, &metrics))?;
    let scores = RunScores::read(&lab.path(probe::SCORES))?;
    println!("{}\n{}", report::table(&scores), report::net(&scores));
    println!("Report: {}", lab.folder.join(HTML).display());
    Ok(())
}

fn write(lab: &Lab, metrics: &[String; 2]) -> Result<()> {
    let splits = &lab.splits;
    let config = lab.experiment.to_toml()?;
    let sources = Sources {
        scores: &RunScores::read(&lab.path(probe::SCORES))?,
        config: config.trim_end(),
        classes: &splits.classes,
        maps: serde_json::from_slice(&std::fs::read(lab.path(maps::MAPS))?)?,
        metrics: [read_lines(lab, &metrics[0])?, read_lines(lab, &metrics[1])?],
        poisoned: (lab.poisoned_train(), &lab.attack.plan, &splits.train.labels),
        evaluation: [splits.prepared(&splits.eval), lab.patched(&splits.eval)],
        made_with: format!(
            "Made by ssl-backdoor {} with Burn {BURN} on {} ({}).",
            env!("CARGO_PKG_VERSION"),
            lab.experiment.device,
            MadeBy::this(&lab.experiment.device)
        ),
    };
    let (html, markdown) = report::write(&sources)?;
    lab.folder.write(HTML, html.as_bytes())?;
    lab.folder.write(MARKDOWN, markdown.as_bytes())
}

fn read_lines(lab: &Lab, name: &str) -> Result<Vec<Value>> {
    let path = lab.path(name);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    lines.with_context(|| format!("{} is broken", path.display()))
}
