//! Probes by the unified rules: linear ones for each seed, and nearest neighbours. They need nothing but features.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use ssl_backdoor_probe::{Features, LinearProbe, ProbeConfig, ProbeKind, Vote, knn};

use crate::record::{ProbeHow, ProbeId, ProbePart};

/// A probe by the unified rules.
#[derive(Clone, Copy)]
pub(crate) enum UnifiedProbe {
    Linear { seed: u64 },
    Knn { k: usize, vote: Vote },
}

/// Predictions on the clean and on the patched images.
pub(crate) type Predicted = [Vec<u32>; 2];

/// What a probe says of a model: once, or for each of the maps that it reads.
pub(crate) struct ProbeRun {
    pub(crate) probe: ProbeId,
    pub(crate) predicted: Predicted,
}

/// What a probe learns from and what it predicts.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    /// Features of the labelled images.
    pub labelled: &'a Features,
    /// Those of the evaluation images, clean and patched.
    pub eval: &'a [Features; 2],
    pub classes: usize,
    pub device: &'a Device,
}

impl UnifiedProbe {
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

    /// Its name in scores, where it reads what `config` says.
    fn id(self, config: &ProbeConfig) -> ProbeId {
        let how = match self {
            Self::Linear { .. } => ProbeHow::Linear,
            Self::Knn { k, vote } => ProbeHow::Knn { k, weighted: vote != Vote::Majority },
        };
        ProbeId { how, part: config.stage.map_or(ProbePart::Output, ProbePart::Stage) }
    }

    /// Learns and predicts; a linear probe is written to `keep`, if that is a path.
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
