//! The probes of a run: the unified ones for each label share, or instead the method's own.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use ssl_backdoor_data::augment::Filter;
use ssl_backdoor_data::{SampleSet, Subset};
use ssl_backdoor_defend::{ModelId, ProbedAs};
use ssl_backdoor_probe::{
    FineTuned, Labelled as LabelledImages, PaperProbe, PaperProbeConfig, ProbeConfig, Protocol,
};
use ssl_backdoor_ssl::MethodConfig;

use super::defend::{at_test_time, probed_as};
use super::encoders;
use super::features::Extracted;
use super::unified::{ProbeRun, Task, UnifiedProbe};
use crate::record::{Artefact, NO_STEP, ProbeHow, ProbeId, ProbePart};
use crate::run::lab::Lab;
use crate::run::labels::Labelled;

/// A probe and its labels.
#[derive(Clone, Copy)]
pub(super) struct Probe<'a> {
    how: How,
    pub(super) labelled: &'a Labelled,
}

#[derive(Clone, Copy)]
enum How {
    Unified(UnifiedProbe),
    Paper { seed: u64 },
    FineTuned { seed: u64 },
}

/// All probes of the config, the headline first.
pub(super) fn probes<'a>(
    config: &ProbeConfig,
    labelled: &'a [Labelled],
    seed: u64,
) -> Vec<Probe<'a>> {
    let how = |unified| match (unified, config.protocol) {
        (UnifiedProbe::Linear { seed }, Protocol::Paper) => How::Paper { seed },
        (unified, _) => How::Unified(unified),
    };
    let mut hows: Vec<How> = UnifiedProbe::all(config, seed).into_iter().map(how).collect();
    hows.extend(config.fine_tune.is_some().then_some(How::FineTuned { seed }));
    let of = |labelled| hows.iter().map(move |&how| Probe { how, labelled });
    labelled.iter().flat_map(of).collect()
}

impl Probe<'_> {
    /// The seed of its weights and order.
    pub(super) fn seed(&self) -> Option<u64> {
        match self.how {
            How::Paper { seed } | How::FineTuned { seed } => Some(seed),
            How::Unified(unified) => unified.seed(),
        }
    }

    /// Its predictions for `model`. A unified linear probe is written to `keep`, if given.
    pub(super) fn run(
        &self,
        lab: &Lab,
        model: &ModelId,
        extracted: &Extracted,
        keep: Option<&Artefact>,
    ) -> Result<Vec<ProbeRun>> {
        let unified = match self.how {
            How::Paper { seed } => return self.run_as_the_paper(lab, model, seed),
            How::FineTuned { seed } => return Ok(vec![self.fine_tune(lab, model, seed)?]),
            How::Unified(unified) => unified,
        };
        let task = Task {
            labelled: &extracted.labelled(self.labelled)?,
            eval: &extracted.eval,
            classes: lab.splits.classes.len(),
            device: &lab.device,
        };
        let keep = keep.map(|file| lab.folder.join(file));
        Ok(vec![unified.run(&lab.experiment.probe, task, keep.as_deref())?])
    }

    /// The labelled images, unprepared (to be augmented in each step) and prepared. A defence's change to images at
    /// test time applies to both.
    fn raw_and_prepared(&self, lab: &Lab, model: &ModelId) -> [SampleSet; 2] {
        let (ids, all) = (&self.labelled.ids, &lab.splits.labelled);
        let raw = Subset::of_ids(all.set.clone(), &all.labels, ids);
        [Arc::new(raw) as SampleSet, lab.images(ids)].map(|set| at_test_time(lab, model, set))
    }

    /// Fine-tunes `model` on the same images as the method's own probe.
    fn fine_tune(&self, lab: &Lab, model: &ModelId, seed: u64) -> Result<ProbeRun> {
        let now = Instant::now();
        let Lab { splits, device, experiment, .. } = lab;
        let config = experiment.probe.fine_tune.clone().unwrap_or_default();
        let [raw, prepared] = self.raw_and_prepared(lab, model);
        let size = experiment.data.size();
        let labelled = LabelledImages { images: &raw, prepared: &prepared, size };
        let start = encoders::trainable(lab, model)?;
        let classes = splits.classes.len();
        let tuned = FineTuned::fit(&config, start, &labelled, classes, seed, device)?;
        let [clean, patched] = [splits.prepared(&splits.eval), lab.patched(&splits.eval)]
            .map(|set| tuned.predict(&at_test_time(lab, model, set)));
        eprintln!("probe: {model} fine-tuned: {:.1} s", now.elapsed().as_secs_f64());
        let probe = ProbeId { how: ProbeHow::FineTuned, part: ProbePart::Output };
        Ok(ProbeRun { probe, predicted: [clean?, patched?] })
    }

    fn run_as_the_paper(&self, lab: &Lab, model: &ModelId, seed: u64) -> Result<Vec<ProbeRun>> {
        let now = Instant::now();
        let Lab { splits, device, experiment, .. } = lab;
        let encoder = encoders::load(lab, model)?;
        let [raw, prepared] = self.raw_and_prepared(lab, model);
        let size = experiment.data.size();
        let labelled = LabelledImages { images: &raw, prepared: &prepared, size };
        let classes = splits.classes.len();
        let rules = rules(lab, model);
        if rules.below_a_batch(self.labelled.ids.len()) {
            eprintln!("probe: {NO_STEP}");
        }
        let clean = match rules.eval_filter() {
            Filter::Bilinear => splits.prepared(&splits.eval),
            filter => splits.prepared_by(&splits.eval, size, filter),
        };
        let probe = PaperProbe::fit(rules, &encoder, &labelled, classes, seed, device)?;
        let [clean, patched] = [clean, lab.patched(&splits.eval)]
            .map(|set| probe.predict(&at_test_time(lab, model, set)));
        let (clean, patched) = (clean?, patched?);
        eprintln!(
            "probe: {model} with its method's own probe: {:.1} s",
            now.elapsed().as_secs_f64()
        );
        let several = clean.len() > 1;
        let part = |i: usize| if several { ProbePart::Map(i + 1) } else { ProbePart::Output };
        let run = |(i, (clean, patched))| ProbeRun {
            probe: ProbeId { how: ProbeHow::Own, part: part(i) },
            predicted: [clean, patched],
        };
        Ok(clean.into_iter().zip(patched).enumerate().map(run).collect())
    }
}

/// The probe of `model`: that of its method, or the one that its defence requires.
fn rules(lab: &Lab, model: &ModelId) -> PaperProbeConfig {
    if probed_as(lab, model) == ProbedAs::MocoV2 {
        return PaperProbeConfig::moco();
    }
    match lab.experiment.pretrain.method {
        MethodConfig::MocoV2(_) | MethodConfig::Msf(_) | MethodConfig::Simclr(_) => {
            PaperProbeConfig::moco()
        }
        MethodConfig::SimclrV2(_) => PaperProbeConfig::simclr_v2(),
        MethodConfig::Simsiam(_) => PaperProbeConfig::simsiam(),
        MethodConfig::BarlowTwins(_) => PaperProbeConfig::barlow_twins(),
        MethodConfig::Vicreg(_) => PaperProbeConfig::vicreg(),
        MethodConfig::MocoV3(_) => PaperProbeConfig::moco_v3(),
        MethodConfig::Swav(_) | MethodConfig::DeepCluster(_) => PaperProbeConfig::swav(),
        MethodConfig::Dino(_) => PaperProbeConfig::dino(),
        MethodConfig::Byol(_) => PaperProbeConfig::byol(),
        MethodConfig::Jigsaw(_) => PaperProbeConfig::jigsaw(),
        MethodConfig::Rotnet(_) => PaperProbeConfig::rotnet(),
        MethodConfig::Mae(_) => PaperProbeConfig::mae(),
    }
}
