//! Stage 7: `report.html` and `report.md`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use ssl_backdoor_defend::{ModelId, Role};

use super::report_events;
use crate::record::{Artefact, BURN, RunScans, RunScores, StageId};
use crate::report::{self, Material};
use crate::run::lab::Lab;

const FILES: [Artefact; 2] = [Artefact::ReportHtml, Artefact::ReportMarkdown];

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let metrics = [Role::CLEAN, Role::BACKDOORED].map(|role| Artefact::Metrics(ModelId::new(role)));
    let inputs = lab
        .inputs()
        .with("config", &lab.experiment)?
        .with("scores", &lab.artefact(&Artefact::Scores)?)?
        .with("metrics", &[lab.artefact(&metrics[0])?, lab.artefact(&metrics[1])?])?
        .with("feature maps", &lab.artefact(&Artefact::FeatureMaps)?)?;
    let inputs = match lab.experiment.scan {
        Some(_) => inputs.with("scans", &lab.artefact(&Artefact::Scan)?)?,
        None => inputs,
    };
    lab.stage(&StageId::Report, &inputs, &FILES, |lab, _| write(lab, &metrics))
}

fn write(lab: &Lab, metrics: &[Artefact; 2]) -> Result<()> {
    let splits = &lab.splits;
    let config = lab.experiment.to_toml()?;
    let scans = lab.experiment.scan.as_ref();
    let scans = scans.map(|_| RunScans::read(&lab.path(&Artefact::Scan))).transpose()?;
    let material = Material {
        scores: &RunScores::read(&lab.path(&Artefact::Scores))?,
        config: config.trim_end(),
        triggers: scans.as_ref().map_or_else(BTreeMap::new, |scans| triggers(lab, scans)),
        scans,
        classes: &splits.classes,
        maps: serde_json::from_slice(&std::fs::read(lab.path(&Artefact::FeatureMaps))?)?,
        metrics: [read_lines(lab, &metrics[0])?, read_lines(lab, &metrics[1])?],
        poisoned: (lab.poisoned_train(), &lab.attack.plan, &splits.train.labels),
        evaluation: [splits.prepared(&splits.eval), lab.patched(&splits.eval)],
        made_with: format!(
            "Made by ssl-backdoor {} with Burn {BURN} on {} ({}).",
            env!("CARGO_PKG_VERSION"),
            lab.experiment.device,
            lab.maker()
        ),
    };
    let (html, markdown) = report::write(&material)?;
    if lab.experiment.tensorboard {
        report_events::write(lab, &material)?;
    }
    lab.folder.write(Artefact::ReportHtml, html.as_bytes())?;
    lab.folder.write(Artefact::ReportMarkdown, markdown.as_bytes())
}

/// The pictures of the strongest triggers that `scans` found, as far as they are in the run folder.
fn triggers(lab: &Lab, scans: &RunScans) -> BTreeMap<(ModelId, String), Vec<u8>> {
    let all = scans.encoders.iter().flat_map(|(model, found)| {
        found.scans.keys().map(move |scan| (model.clone(), scan.clone()))
    });
    let picture = |(model, scan): (ModelId, String)| {
        let file = lab.folder.join(Artefact::Trigger(model.clone(), scan.clone()));
        Some(((model, scan), std::fs::read(file).ok()?))
    };
    all.filter_map(picture).collect()
}

/// The lines of the log of a training.
pub(super) fn read_lines(lab: &Lab, log: &Artefact) -> Result<Vec<Value>> {
    let path = lab.path(log);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    lines.with_context(|| format!("{} is broken", path.display()))
}
