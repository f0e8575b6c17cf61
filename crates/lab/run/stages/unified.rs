//! The unified probes: linear for each seed, and nearest neighbours. They need only features.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use ssl_backdoor_probe::{Features, LinearProbe, ProbeConfig, ProbeKind, Vote, knn};

use crate::record::{ProbeHow, ProbeId, ProbePart};

/// A unified probe.
#[derive(Clone, Copy)]
pub(crate) enum UnifiedProbe {
    Linear { seed: u64 },
    Knn { k: usize, vote: Vote },
}

/// Predictions on the clean and on the patched images.
pub(crate) type Predicted = [Vec<u32>; 2];

/// The predictions of a probe for a model, or of its classifier on one of the maps that it reads.
pub(crate) struct ProbeRun {
    pub(crate) probe: ProbeId,
    pub(crate) predicted: Predicted,
}

/// The features that a probe is trained on and those it classifies.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    /// Features of the labelled images.
    pub labelled: &'a Features,
    /// Features of the evaluation images, clean and patched.
    pub eval: &'a [Features; 2],
    pub classes: usize,
    pub device: &'a Device,
}

impl UnifiedProbe {
    /// All probes of the config, the headline first. Linear probes use `seed` and the seeds after it.
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

    /// Its name in the scores.
    fn id(self, config: &ProbeConfig) -> ProbeId {
        let how = match self {
            Self::Linear { .. } => ProbeHow::Linear,
            Self::Knn { k, vote } => ProbeHow::Knn { k, weighted: vote != Vote::Majority },
        };
        ProbeId { how, part: config.stage.map_or(ProbePart::Output, ProbePart::Stage) }
    }

    /// Trains the probe and predicts. A linear probe is written to `keep`, if given.
    pub(crate) fn run(
        self,
        config: &ProbeConfig,
        task: Task<'_>,
        keep: Option<&Path>,
    ) -> Result<ProbeRun> {
        let Task { labelled, eval, classes, device } = task;
        let predicted = match self {
            Self::Linear { seed } => {
                let probe = LinearProbe::fit(config, labelled, classes, seed, device)?;
                if let Some(file) = keep {
                    probe.save(file)?;
                }
                [probe.predict(&eval[0])?, probe.predict(&eval[1])?]
            }
            Self::Knn { k, vote } => {
                let nearest = |eval: &Features| -> Result<Vec<u32>> {
                    Ok(knn(labelled, eval, classes, &[k], vote, device)?.concat())
                };
                [nearest(&eval[0])?, nearest(&eval[1])?]
            }
        };
        Ok(ProbeRun { probe: self.id(config), predicted })
    }
}
