//! What reads a model's features out, and from which labels: linear probes for each share of labels and each seed, by
//! the unified rules or the method's own, and nearest neighbours.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_data::augment::Filter;
use ssl_backdoor_defend::ProbedAs;
use ssl_backdoor_probe::{
    Features, Labelled as LabelledImages, LinearProbe, PaperProbe, ProbeConfig, ProbeKind,
    Protocol, Rules, Vote, knn,
};
use ssl_backdoor_ssl::MethodConfig;

use super::defend::{at_test_time, probed_as};
use super::features::{self, Extracted};
use super::pretrain::images;
use super::{Lab, Labelled};

/// One reader.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    how: How,
    pub(super) labelled: &'a Labelled,
}

#[derive(Clone, Copy)]
enum How {
    Unified(Unified),
    Paper { seed: u64 },
}

/// A reader by the unified rules: it needs nothing but features.
#[derive(Clone, Copy)]
pub(crate) enum Unified {
    Linear { seed: u64 },
    Knn { k: usize, vote: Vote },
}

/// Predictions on the clean and on the patched images.
pub(super) type Predicted = [Vec<u32>; 2];

/// What a reader says of a model: once, or for each of the stages that it reads.
pub(crate) struct Read {
    /// Its name in the scores.
    pub(crate) probe: String,
    pub(crate) predicted: Predicted,
}

/// All readers of the config; the headline's comes first.
pub(super) fn readers<'a>(
    config: &ProbeConfig,
    labelled: &'a [Labelled],
    seed: u64,
) -> Vec<Reader<'a>> {
    let how = |unified| match (unified, config.protocol) {
        (Unified::Linear { seed }, Protocol::Paper) => How::Paper { seed },
        (unified, _) => How::Unified(unified),
    };
    let hows: Vec<How> = Unified::all(config, seed).into_iter().map(how).collect();
    let of = |labelled| hows.iter().map(move |&how| Reader { how, labelled });
    labelled.iter().flat_map(of).collect()
}

impl Unified {
    /// All of the config, the headline's first; linear probes start from `seed` and those after it.
    pub(crate) fn all(config: &ProbeConfig, seed: u64) -> Vec<Self> {
        let linear = (0..config.seeds).map(|i| Self::Linear { seed: seed.wrapping_add(i) });
        let knn = config.neighbours().iter().map(|&k| Self::Knn { k, vote: config.vote() });
        match config.kind {
            ProbeKind::Linear => linear.chain(knn).collect(),
            ProbeKind::Knn => knn.collect(),
        }
    }

    /// The seed of its weights and order.
    pub(crate) fn seed(self) -> Option<u64> {
        match self {
            Self::Linear { seed } => Some(seed),
            Self::Knn { .. } => None,
        }
    }

    /// Learns from `labelled` features of `classes` classes and predicts those of `eval`, clean and patched; a linear
    /// probe is written to `keep`, if that is a path.
    pub(crate) fn read(
        self,
        config: &ProbeConfig,
        labelled: &Features,
        eval: &[Features; 2],
        classes: usize,
        keep: Option<&Path>,
        device: &Device,
    ) -> Result<Read> {
        let (probe, predicted) = match self {
            Self::Linear { seed } => {
                let probe = LinearProbe::fit(config, labelled, classes, seed, device)?;
                if let Some(file) = keep {
                    probe.save(file)?;
                }
                ("linear".to_owned(), [probe.predict(&eval[0])?, probe.predict(&eval[1])?])
            }
            Self::Knn { k, vote } => {
                let nearest = |eval: &Features| -> Result<Vec<u32>> {
                    Ok(knn(labelled, eval, classes, &[k], vote, device)?.concat())
                };
                let how = if vote == Vote::Majority { "" } else { "-weighted" };
                (format!("knn-{k}{how}"), [nearest(&eval[0])?, nearest(&eval[1])?])
            }
        };
        let probe = match config.stage {
            Some(stage) => format!("{probe}, stage {stage}"),
            None => probe,
        };
        Ok(Read { probe, predicted })
    }
}

impl Reader<'_> {
    /// The seed of its weights and order.
    pub(super) fn seed(&self) -> Option<u64> {
        match self.how {
            How::Paper { seed } => Some(seed),
            How::Unified(unified) => unified.seed(),
        }
    }

    /// Reads `model`; a unified linear probe is written to `keep`, if that is a path.
    pub(super) fn read(
        &self,
        lab: &Lab,
        model: &str,
        extracted: &Extracted,
        keep: Option<&str>,
    ) -> Result<Vec<Read>> {
        let unified = match self.how {
            How::Paper { seed } => return self.read_as_the_paper(lab, model, seed),
            How::Unified(unified) => unified,
        };
        let labelled = extracted.labelled(self.labelled)?;
        let classes = lab.splits.classes.len();
        let keep = keep.map(|file| lab.folder.join(file));
        let config = &lab.experiment.probe;
        let keep = keep.as_deref();
        let read = unified.read(config, &labelled, &extracted.eval, classes, keep, &lab.device)?;
        Ok(vec![read])
    }

    fn read_as_the_paper(&self, lab: &Lab, model: &str, seed: u64) -> Result<Vec<Read>> {
        let now = Instant::now();
        let Lab { splits, device, experiment, .. } = lab;
        let encoder = features::encoder(lab, model)?;
        let ids = &self.labelled.ids;
        let raw = super::Subset::of_ids(splits.labelled.set.clone(), &splits.labelled.labels, ids);
        let raw: SampleSet = std::sync::Arc::new(raw);
        let prepared = images(lab, ids);
        let size = experiment.data.size();
        let labelled = LabelledImages { images: &raw, prepared: &prepared, size };
        let classes = splits.classes.len();
        let rules = rules(lab, model);
        if rules.below_a_batch(ids.len()) {
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
        eprintln!("probe: {model} by its method's own rules: {:.1} s", now.elapsed().as_secs_f64());
        let several = clean.len() > 1;
        let name = |i: usize| match several {
            true => format!("paper, map {}", i + 1),
            false => "paper".to_owned(),
        };
        let pairs = clean.into_iter().zip(patched).enumerate();
        Ok(pairs.map(|(i, (c, p))| Read { probe: name(i), predicted: [c, p] }).collect())
    }
}

/// Said where a method's own probe is read on fewer labels than the reference could use.
pub(crate) const NO_STEP: &str = "the reference's own probe drops what does not fill a batch and would take no step on so \
     few labels: here all labelled images are one batch";

/// Whether [`NO_STEP`] holds of the probe of `method` on `labelled` images.
pub(crate) fn takes_no_step(method: &str, labelled: usize) -> bool {
    let rules = match method {
        "byol" => Rules::byol(),
        "mae" => Rules::mae(),
        _ => return false,
    };
    rules.below_a_batch(labelled)
}

/// The rules of `model`: its method's, or those that its defence asks for.
fn rules(lab: &Lab, model: &str) -> Rules {
    if probed_as(lab, model) == ProbedAs::MocoV2 {
        return Rules::moco();
    }
    match lab.experiment.pretrain.method {
        MethodConfig::MocoV2(_) | MethodConfig::Msf(_) | MethodConfig::Simclr(_) => Rules::moco(),
        MethodConfig::Byol(_) => Rules::byol(),
        MethodConfig::Jigsaw(_) => Rules::jigsaw(),
        MethodConfig::Rotnet(_) => Rules::rotnet(),
        MethodConfig::Mae(_) => Rules::mae(),
    }
}
