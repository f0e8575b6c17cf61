//! Accuracy, FP and ASR of predictions. One definition each (protocol 4), named in full, because
//! the literature uses several.

use serde::{Deserialize, Serialize};

use crate::{paired_difference, wilson};

/// Scores of one model on one set of images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Top-1 accuracy in percent over all images, those of the target class included.
    pub acc: f64,
    /// Images of *other* classes predicted as the target.
    pub fp: Option<usize>,
    /// Attack success rate: 100 · fp / (number of non-target images).
    pub asr: Option<f64>,
    /// Images of *all* classes predicted as the target, in percent.
    pub asr_all: Option<f64>,
    /// Wilson 95 % interval of `acc`.
    pub acc_ci: [f64; 2],
    /// Wilson 95 % interval of `asr`.
    pub asr_ci: Option<[f64; 2]>,
}

impl Scores {
    /// Scores `predicted` against `truth`; without a target only the accuracy is defined.
    pub fn of(truth: &[u32], predicted: &[u32], target: Option<u32>) -> Self {
        let pairs = || truth.iter().zip(predicted);
        let n = pairs().count();
        let right = pairs().filter(|(t, p)| t == p).count();
        let targeted = target.map(|target| {
            let others = pairs().filter(|(t, _)| **t != target).count();
            let fp = pairs().filter(|(t, p)| **t != target && **p == target).count();
            let hits = pairs().filter(|(_, p)| **p == target).count();
            (fp, others, hits)
        });
        Self {
            acc: percent(right, n),
            acc_ci: percent_interval(wilson(right, n)),
            fp: targeted.map(|(fp, _, _)| fp),
            asr: targeted.map(|(fp, others, _)| percent(fp, others)),
            asr_ci: targeted.map(|(fp, others, _)| percent_interval(wilson(fp, others))),
            asr_all: targeted.map(|(_, _, hits)| percent(hits, n)),
        }
    }
}

/// The net ASR: that of the backdoored model minus that of its clean twin on the same patched
/// non-target images, in percent points, with Newcombe's paired 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NetAsr {
    /// The difference.
    pub net_asr: f64,
    /// Its interval.
    pub net_asr_ci: [f64; 2],
}

/// Compares the two models' predictions on the same patched images.
pub fn net_asr(truth: &[u32], backdoored: &[u32], clean: &[u32], target: u32) -> NetAsr {
    // [positive in both, in the backdoored alone, in the clean alone, in neither]
    let mut counts = [0usize; 4];
    for ((&t, &b), &c) in truth.iter().zip(backdoored).zip(clean) {
        if t != target {
            counts[2 * usize::from(b != target) + usize::from(c != target)] += 1;
        }
    }
    let [both, first, second, neither] = counts;
    let (difference, low, high) = paired_difference(both, first, second, neither);
    NetAsr { net_asr: 100.0 * difference, net_asr_ci: percent_interval((low, high)) }
}

fn percent(k: usize, n: usize) -> f64 {
    100.0 * k as f64 / n.max(1) as f64
}

fn percent_interval((low, high): (f64, f64)) -> [f64; 2] {
    [100.0 * low, 100.0 * high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_own_denominator() {
        // Ten images, four of the target class 1; predictions worked by hand.
        let truth = [1, 1, 1, 1, 0, 0, 0, 2, 2, 2];
        let predicted = [1, 1, 1, 0, 1, 1, 0, 1, 2, 2];
        let scores = Scores::of(&truth, &predicted, Some(1));
        assert_eq!(scores.acc, 60.0);
        assert_eq!(scores.fp, Some(3));
        assert_eq!(scores.asr, Some(50.0));
        assert_eq!(scores.asr_all, Some(60.0));
        let untargeted = Scores::of(&truth, &predicted, None);
        assert_eq!((untargeted.acc, untargeted.fp, untargeted.asr_ci), (60.0, None, None));
    }

    #[test]
    fn net_asr_ignores_the_target_class_and_pairs_the_rest() {
        let truth = [1, 1, 0, 0, 0, 0];
        let backdoored = [1, 1, 1, 1, 1, 0];
        let clean = [0, 0, 1, 0, 0, 0];
        let net = net_asr(&truth, &backdoored, &clean, 1);
        assert_eq!(net.net_asr, 50.0);
        let (_, low, high) = paired_difference(1, 2, 0, 1);
        assert_eq!(net.net_asr_ci, [100.0 * low, 100.0 * high]);
    }
}
