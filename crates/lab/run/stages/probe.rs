//! Stage 5b: every probe of the features (linear for each label share and seed, nearest neighbours), `scores.json`, and
//! the confusion matrices of the headline.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use ssl_backdoor_defend::{ModelId, Removal, Role, defences};
use ssl_backdoor_probe::{
    Confusion as Matrix, Flow, Paired, ProbeKind, Protocol, Scores, reference_csv,
};

use super::features::{self, Extracted};
use super::probes::{Probe, probes};
use super::report::read_lines;
use super::unified::{Predicted, ProbeRun};
use super::{baseline, defend, neighbours, poison, trigger_size};
use crate::record::{
    self, Against, Artefact, BySet, Confusion, Images, MadeBy, OnsetPoint, ProbeResult, RunScores,
    SCHEMA, StageId, json_text,
};
use crate::run::lab::Lab;

pub(super) fn run(lab: &mut Lab) -> Result<()> {
    let basic = [Role::UNTRAINED, Role::CLEAN, Role::BACKDOORED];
    let mut models: Vec<ModelId> = basic.map(ModelId::new).to_vec();
    models.extend(defences(&lab.experiment.defend).iter().map(|defence| defence.model()));
    let removed = defend::removed(lab)?;
    baseline::stage(lab)?;
    let mut extracted = Vec::new();
    for model in &models {
        features::stage(lab, model)?;
        for file in Artefact::features(model) {
            extracted.push(lab.artefact(&file)?);
        }
    }
    let mut inputs = lab
        .inputs()
        .with("config", &lab.experiment.of_scores())?
        .with("poison.target", &lab.attack.target)?
        .with("poisoned images", &poison::outcome(lab)?)?
        .with("floor", &lab.artefact(&Artefact::Baseline)?)?
        .with("trigger size", &lab.artefact(&Artefact::TriggerSize)?)?
        .with("features", &extracted)?;
    if !removed.is_empty() {
        inputs = inputs.with("removed images", &removed)?;
    }
    let config = &lab.experiment.probe;
    let linear = config.kind == ProbeKind::Linear && config.protocol == Protocol::Unified;
    let mut artefacts = vec![Artefact::Scores];
    for model in &models {
        artefacts.extend(Confusion::ALL.map(|which| Artefact::Confusion(model.clone(), which)));
        artefacts.extend(linear.then(|| Artefact::Probe(model.clone())));
    }
    lab.stage(&StageId::Probe, &inputs, &artefacts, |lab, _| {
        let found = Found::by_probes(lab, &models)?;
        let headline = found.headline();
        for model in &models {
            if let Some(predicted) = found.predicted(model, headline) {
                write_confusion(lab, model, &found.truth, predicted)?;
            }
        }
        let text = json_text(&scores(lab, &found, headline, removed)?)?;
        lab.folder.write(Artefact::Scores, text.as_bytes())
    })
}

/// The indices of a probe of the run and of one of its maps.
type Place = (usize, usize);

/// The results of the probes.
struct Found<'a> {
    probes: Vec<Probe<'a>>,
    /// By model, for each probe.
    runs: BTreeMap<ModelId, Vec<Vec<ProbeRun>>>,
    /// The id of the clean twin.
    clean: ModelId,
    /// Labels of the evaluation images.
    truth: Vec<u32>,
    target_neighbour_share: BTreeMap<ModelId, f64>,
}

impl<'a> Found<'a> {
    fn by_probes(lab: &'a Lab, models: &[ModelId]) -> Result<Self> {
        let probes = probes(&lab.experiment.probe, &lab.labelled, lab.experiment.seed);
        let (mut truth, mut target_neighbour_share) = (Vec::new(), BTreeMap::new());
        let mut runs = BTreeMap::new();
        for model in models {
            eprintln!("probe: {model}");
            let extracted = Extracted::read(lab, model)?;
            truth.clone_from(&extracted.eval[0].labels);
            if let Some(share) = neighbours::target_share(lab, &extracted)? {
                target_neighbour_share.insert(model.clone(), share);
            }
            let file = Artefact::Probe(model.clone());
            let of = |(i, probe): (usize, &Probe<'_>)| {
                probe.run(lab, model, &extracted, (i == 0).then_some(&file))
            };
            let all: Result<Vec<_>> = probes.iter().enumerate().map(of).collect();
            runs.insert(model.clone(), all?);
        }
        Ok(Self { probes, runs, clean: Role::CLEAN.into(), truth, target_neighbour_share })
    }

    /// The clean twin's runs, for each probe.
    fn clean(&self) -> &[Vec<ProbeRun>] {
        self.runs.get(&self.clean).map_or(&[], Vec::as_slice)
    }

    /// The place of the headline: the first probe, and the map on which the clean twin is best on clean images
    /// (docs/protocol.md, 3.4); ties go to the first map.
    fn headline(&self) -> Place {
        let right = |run: &ProbeRun| {
            run.predicted[0].iter().zip(&self.truth).filter(|(a, b)| a == b).count()
        };
        let first = self.clean().first().map_or(&[][..], Vec::as_slice);
        let best = first.iter().enumerate().rev().max_by_key(|(_, run)| right(run));
        (0, best.map_or(0, |(map, _)| map))
    }

    /// All places, the headline first.
    fn places(&self, (_, map): Place) -> Vec<Place> {
        let all = self.clean().iter().enumerate();
        let mut places: Vec<Place> =
            all.flat_map(|(i, runs)| (0..runs.len()).map(move |map| (i, map))).collect();
        places.swap(0, map);
        places
    }

    /// The predictions of `model`. A student has one classifier even if its teacher's method has five; it is compared with
    /// each of them.
    fn predicted(&self, model: &ModelId, (probe, map): Place) -> Option<&Predicted> {
        let runs = self.runs.get(model)?.get(probe)?;
        Some(&runs.get(map).or_else(|| runs.first())?.predicted)
    }

    /// The scores of every model at one place.
    fn result(&self, lab: &Lab, place: Place) -> Result<ProbeResult> {
        let (target, truth) = (lab.attack.target, &self.truth);
        let mut models = BTreeMap::new();
        for model in self.runs.keys() {
            if let Some([clean, patched]) = self.predicted(model, place) {
                let of = [Scores::of(truth, clean, target)?, Scores::of(truth, patched, target)?];
                models.insert(model.clone(), Images::ALL.into_iter().zip(of).collect::<BySet>());
            }
        }
        let patched = |role: Role<'_>| {
            let predicted = self.predicted(&role.into(), place).map(|both| &both[1]);
            predicted.ok_or_else(|| anyhow!("{role} was not probed"))
        };
        let (backdoored, clean) = (patched(Role::BACKDOORED)?, patched(Role::CLEAN)?);
        let classes = lab.splits.classes.len();
        let mut defended = BTreeMap::new();
        for model in self.runs.keys().filter(|model| !model.role().is_basic()) {
            if let Some([_, patched]) = self.predicted(model, place) {
                let net = Paired::of(truth, patched, clean, target)?;
                let flow = Flow::of(truth, patched, clean, target, classes)?;
                defended.insert(model.clone(), Against { net, flow });
            }
        }
        let (i, map) = place;
        Ok(ProbeResult {
            probe: self.clean()[i][map].probe.clone(),
            labels: self.probes[i].labelled.share,
            seed: self.probes[i].seed(),
            superseded: None,
            flow: Some(Flow::of(truth, backdoored, clean, target, classes)?),
            defended,
            net: Paired::of(truth, backdoored, clean, target)?,
            models,
        })
    }
}

/// All figures of the run.
fn scores(
    lab: &Lab,
    found: &Found<'_>,
    headline: Place,
    removed: BTreeMap<ModelId, Removal>,
) -> Result<RunScores> {
    let Lab { experiment, splits, .. } = lab;
    let places = found.places(headline).into_iter();
    let probes: Vec<ProbeResult> =
        places.map(|place| found.result(lab, place)).collect::<Result<_>>()?;
    let ProbeResult { labels, models, flow, net, .. } = probes[0].clone();
    let target = lab.attack.target;
    let clean = models.get(&found.clean).and_then(|sets| sets.get(&Images::Clean));
    let train_images = splits.train.labels.len();
    let config = &experiment.pretrain;
    let (expected, raw_pixels) = baseline::expected(lab, clean.map(|scores| scores.acc))?;
    Ok(RunScores {
        schema: SCHEMA,
        made_by: makers(lab),
        name: experiment.name.clone(),
        method: config.method.settings().name().into(),
        data: experiment.data.kind().into(),
        target,
        target_name: target.and_then(|t| splits.classes.get(t as usize).cloned()),
        trigger: experiment.poison.to_string(),
        classes: splits.classes.len() as u32,
        class_names: splits.classes.clone(),
        seed: experiment.seed,
        eval: experiment.data.eval(),
        images: found.truth.len(),
        steps: config.train.steps(train_images),
        train_images,
        labels,
        poison: lab.attack.plan.rates(),
        selected: lab.attack.selected.clone(),
        trigger_size: Some(trigger_size::read(lab)?),
        left_out: splits.left_out.clone(),
        expected,
        raw_pixels,
        models,
        net_asr: net.net_asr,
        net_asr_ci: net.net_asr_ci,
        patched_drop: net.patched_drop,
        patched_drop_ci: net.patched_drop_ci,
        mcnemar_p: net.mcnemar_p,
        flow,
        onset: onset(lab)?,
        target_neighbour_share: found.target_neighbour_share.clone(),
        removed,
        probes,
        config_hash: experiment.hash()?,
        manifest_hash: lab.manifest.figures_hash()?,
    })
}

/// The attack during the training; empty if it was not measured.
fn onset(lab: &Lab) -> Result<Vec<OnsetPoint>> {
    if lab.experiment.probe.curve_every == 0 {
        return Ok(Vec::new());
    }
    let read = |role: Role<'_>| read_lines(lab, &Artefact::Metrics(role.into()));
    Ok(record::onset(&read(Role::CLEAN)?, &read(Role::BACKDOORED)?))
}

/// All programs that produced the run, including this one.
fn makers(lab: &Lab) -> Vec<MadeBy> {
    let mut makers = lab.manifest.makers();
    let this = lab.maker();
    if !makers.contains(&this) {
        makers.push(this);
    }
    makers
}

fn write_confusion(lab: &Lab, model: &ModelId, truth: &[u32], predicted: &Predicted) -> Result<()> {
    let classes = &lab.splits.classes;
    let of = |predicted: &[u32]| Matrix::of(truth, predicted, classes.len());
    let (clean, patched) = (of(&predicted[0])?, of(&predicted[1])?);
    let name = format!("{}/{model}", lab.experiment.name);
    for which in Confusion::ALL {
        let text = match which {
            Confusion::Of(Images::Clean) => clean.to_csv(classes),
            Confusion::Of(Images::Patched) => patched.to_csv(classes),
            Confusion::Reference => {
                reference_csv(&name, &lab.splits.name, classes, &clean, &patched)
            }
        };
        lab.folder.write(Artefact::Confusion(model.clone(), which), text.as_bytes())?;
    }
    Ok(())
}
