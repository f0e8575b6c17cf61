//! What reads a model's features out, and from which labels: linear probes for each share of labels and each seed, by
//! the unified rules or the method's own, and nearest neighbours.

use std::time::Instant;

use anyhow::Result;
use ssl_backdoor_data::SampleSet;
use ssl_backdoor_probe::{
    Features, Labelled as LabelledImages, LinearProbe, PaperProbe, ProbeConfig, ProbeKind,
    Protocol, Rules, Vote, knn,
};
use ssl_backdoor_ssl::MethodConfig;

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
    Linear { seed: u64 },
    Paper { seed: u64 },
    Knn { k: usize, vote: Vote },
}

/// Predictions on the clean and on the patched images.
pub(super) type Predicted = [Vec<u32>; 2];

/// What a reader says of a model: once, or for each of the stages that it reads.
pub(super) struct Read {
    /// Its name in the scores.
    pub(super) probe: String,
    pub(super) predicted: Predicted,
}

/// All readers of the config; the headline's comes first.
pub(super) fn readers<'a>(
    config: &ProbeConfig,
    labelled: &'a [Labelled],
    seed: u64,
) -> Vec<Reader<'a>> {
    let seeds = (0..config.seeds).map(|i| seed.wrapping_add(i));
    let linear = seeds.map(|seed| match config.protocol {
        Protocol::Unified => How::Linear { seed },
        Protocol::Paper => How::Paper { seed },
    });
    let knn = config.k.iter().map(|&k| How::Knn { k, vote: config.vote() });
    let hows: Vec<How> = match config.kind {
        ProbeKind::Linear => linear.chain(knn).collect(),
        ProbeKind::Knn => knn.collect(),
    };
    let of = |labelled| hows.iter().map(move |&how| Reader { how, labelled });
    labelled.iter().flat_map(of).collect()
}

impl Reader<'_> {
    /// The seed of its weights and order.
    pub(super) fn seed(&self) -> Option<u64> {
        match self.how {
            How::Linear { seed } | How::Paper { seed } => Some(seed),
            How::Knn { .. } => None,
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
        let classes = lab.splits.classes.len();
        let config = &lab.experiment.probe;
        let (probe, predicted) = match self.how {
            How::Paper { seed } => return self.read_as_the_paper(lab, model, seed),
            How::Linear { seed } => {
                let labelled = extracted.labelled(self.labelled);
                let probe = LinearProbe::fit(config, &labelled, classes, seed, &lab.device);
                if let Some(file) = keep {
                    probe.save(&lab.folder.join(file))?;
                }
                let predicted = extracted.eval.each_ref().map(|features| probe.predict(features));
                ("linear".to_owned(), predicted)
            }
            How::Knn { k, vote } => {
                let labelled = extracted.labelled(self.labelled);
                let nearest = |eval: &Features| {
                    knn(&labelled, eval, classes, &[k], vote, &lab.device).concat()
                };
                let how = if vote == Vote::Majority { "" } else { "-weighted" };
                (format!("knn-{k}{how}"), extracted.eval.each_ref().map(nearest))
            }
        };
        let probe = config.stage.map_or(probe.clone(), |stage| format!("{probe}, stage {stage}"));
        Ok(vec![Read { probe, predicted }])
    }

    fn read_as_the_paper(&self, lab: &Lab, model: &str, seed: u64) -> Result<Vec<Read>> {
        let now = Instant::now();
        let Lab { splits, device, experiment, .. } = lab;
        let encoder = features::encoder(lab, model)?;
        let ids = &self.labelled.ids;
        let raw = super::Subset::of_ids(splits.train.set.clone(), &splits.train.labels, ids);
        let raw: SampleSet = std::sync::Arc::new(raw);
        let prepared = images(lab, ids);
        let size = experiment.data.size();
        let labelled = LabelledImages { images: &raw, prepared: &prepared, size };
        let classes = splits.classes.len();
        let rules = rules(lab, model);
        let probe = PaperProbe::fit(rules, &encoder, &labelled, classes, seed, device)?;
        let clean = probe.predict(&splits.prepared(&splits.eval))?;
        let patched = probe.predict(&lab.patched(&splits.eval))?;
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

/// The rules of `model`: its method's, or CompReSS's for a student.
fn rules(lab: &Lab, model: &str) -> Rules {
    if super::defend::is_student(lab, model) {
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
