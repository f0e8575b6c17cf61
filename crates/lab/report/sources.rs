//! The runs behind every figure of a report, and what they cost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::destinations::{Effect, top};
use super::group::{Group, anchor};
use super::learned::weak;
use crate::record::{
    Artefact, BACKDOORED, CLEAN, Cost, Images, MadeBy, Manifest, RunScores, relative,
};

/// A run.
pub(super) struct Source {
    /// Anchor to which its figures link.
    pub anchor: String,
    pub name: String,
    pub cells: Vec<String>,
    /// First digits of the manifest's hash.
    pub hash: String,
    /// Path of the manifest, relative to the page.
    pub link: String,
}

/// The runs, ordered by group.
pub(super) fn sources(groups: &[Group<'_>], paths: &[PathBuf], out: &Path) -> Vec<Source> {
    let runs = groups.iter().flat_map(|group| &group.runs);
    runs.map(|&(place, run, _)| source(place, run, &paths[place], out)).collect()
}

fn source(place: usize, run: &RunScores, path: &Path, out: &Path) -> Source {
    let asr = |model| run.get(model, Images::Patched).and_then(|s| s.asr);
    let acc = |model| run.get(model, Images::Clean).map(|s| s.acc);
    let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
    let net = run.net_asr.zip(run.net_asr_ci).unwrap_or((run.patched_drop, run.patched_drop_ci));
    let link = relative(path, out).join(Artefact::Manifest.to_string());
    Source {
        anchor: anchor(place),
        name: run.name.clone(),
        cells: vec![
            run.method.clone(),
            run.target_name.clone().unwrap_or_else(|| "untargeted".into()),
            run.trigger.clone(),
            run.seed.to_string(),
            number(acc(CLEAN)),
            number(acc(BACKDOORED)),
            number(asr(CLEAN)),
            number(asr(BACKDOORED)),
            format!("{:.1} [{:.1}, {:.1}]", net.0, net.1[0], net.1[1]),
            run.flow.as_ref().map_or("-".into(), |flow| {
                let effect = Effect::of(flow, run.target, run.patched_drop).word();
                format!("{effect}: {}", top(run, flow))
            }),
            if weak(run) { "UNDER-TRAINED VICTIM".into() } else { "trained".into() },
        ],
        hash: run.manifest_hash.chars().take(12).collect(),
        link: link.to_string_lossy().into_owned(),
    }
}

/// What produced the figures, in a sentence.
pub(super) fn makers(runs: &[RunScores]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for run in runs {
        let mut makers: Vec<String> = run.made_by.iter().map(MadeBy::to_string).collect();
        if makers.is_empty() {
            makers.push(MadeBy::unknown().to_string());
        }
        *counts.entry(makers.join(" and then ")).or_default() += 1;
    }
    let parts: Vec<String> =
        counts.iter().map(|(maker, runs)| format!("{maker} ({runs} runs)")).collect();
    format!("Made with {}.", parts.join("; "))
}

/// The cost of the runs, in words: the time of their stages. A model that several runs share, or that was copied from one
/// run to another, counts once.
pub(super) fn compute(manifests: &[Manifest]) -> String {
    let mut rest = 0.0;
    let (mut models, mut twins) = (BTreeMap::new(), BTreeSet::new());
    for (stage, done) in manifests.iter().flat_map(|manifest| &manifest.stages) {
        if stage.cost() == Cost::Rest {
            rest += done.seconds;
            continue;
        }
        models.insert((stage, &done.inputs), done.seconds);
        if stage.cost() == Cost::Twin {
            twins.insert(&done.inputs);
        }
    }
    format!(
        "Compute (wall-clock time of the process that finished each stage): {:.1} h of training ({} models, {} of them clean \
         twins, each counted once) and {:.1} h of everything else.",
        models.values().sum::<f64>() / 3600.0,
        models.len(),
        twins.len(),
        rest / 3600.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_linked_from_any_folder() {
        let of = |path: &str, from: &str| relative(Path::new(path), Path::new(from));
        assert_eq!(of("/a/results/run", "/a/results"), Path::new("run"));
        assert_eq!(of("/a/results/run", "/a/pages/one"), Path::new("../../results/run"));
        assert_eq!(of("/a/results/run", "/b"), Path::new("../a/results/run"));
    }
}
