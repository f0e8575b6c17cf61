//! Accuracy, FP and ASR of predictions. One definition each (docs/protocol.md, 4), named in full, because
//! the literature uses several.

use serde::{Deserialize, Serialize};

use crate::features::count;
use crate::{ProbeError, mcnemar, paired_difference, wilson};

/// Scores of one model on one set of images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Top-1 accuracy in percent over all images, those of the target class included.
    pub acc: f64,
    /// Images of *other* classes predicted as the target.
    pub fp: Option<usize>,
    /// Attack success rate: 100 · fp / (number of non-target images); `None` without such images.
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
    ///
    /// # Errors
    /// [`ProbeError::Empty`] without images, and [`ProbeError::Count`] if there are not as many predictions as images.
    pub fn of(truth: &[u32], predicted: &[u32], target: Option<u32>) -> Result<Self, ProbeError> {
        check_predictions(truth, &[predicted])?;
        let pairs = || truth.iter().zip(predicted);
        let n = truth.len();
        let right = pairs().filter(|(t, p)| t == p).count();
        let targeted = target.map(|target| {
            let others = pairs().filter(|(t, _)| **t != target).count();
            let fp = pairs().filter(|(t, p)| **t != target && **p == target).count();
            let hits = pairs().filter(|(_, p)| **p == target).count();
            (fp, others, hits)
        });
        // The rate over no images is undefined, not 0.
        let rate = targeted.filter(|(_, others, _)| *others > 0);
        Ok(Self {
            acc: percent(right, n),
            acc_ci: percent_interval(wilson(right, n)),
            fp: targeted.map(|(fp, _, _)| fp),
            asr: rate.map(|(fp, others, _)| percent(fp, others)),
            asr_ci: rate.map(|(fp, others, _)| percent_interval(wilson(fp, others))),
            asr_all: targeted.map(|(_, _, hits)| percent(hits, n)),
        })
    }
}

/// Checks that there are images, and that every model has a prediction for each.
pub(crate) fn check_predictions(truth: &[u32], predicted: &[&[u32]]) -> Result<(), ProbeError> {
    if truth.is_empty() {
        return Err(ProbeError::Empty { what: "images to score" });
    }
    predicted.iter().try_for_each(|p| count("predictions", p.len(), truth.len()))
}

/// The backdoored model against its clean twin on the same patched images, with Newcombe's paired 95 %
/// intervals, in percent points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// ASR of the backdoored model minus that of its twin, over the non-target images; none without a
    /// target or without such images.
    pub net_asr: Option<f64>,
    /// Its interval.
    pub net_asr_ci: Option<[f64; 2]>,
    /// The patched drop: accuracy of the twin minus that of the backdoored model, over all images.
    pub patched_drop: f64,
    /// Its interval.
    pub patched_drop_ci: [f64; 2],
    /// McNemar's exact p-value of `net_asr`, or without a target of `patched_drop`.
    pub mcnemar_p: f64,
}

impl Paired {
    /// Compares the two models' predictions.
    ///
    /// # Errors
    /// As [`Scores::of`].
    pub fn of(
        truth: &[u32],
        backdoored: &[u32],
        clean: &[u32],
        target: Option<u32>,
    ) -> Result<Self, ProbeError> {
        check_predictions(truth, &[backdoored, clean])?;
        let target = target.filter(|target| truth.iter().any(|class| class != target));
        let triples = || truth.iter().zip(backdoored).zip(clean).map(|((&t, &b), &c)| (t, b, c));
        let net = target.map(|target| {
            let others = triples().filter(|(t, _, _)| *t != target);
            difference(others.map(|(_, b, c)| (b == target, c == target)))
        });
        let (patched_drop, patched_drop_ci, drop_p) =
            difference(triples().map(|(t, b, c)| (c == t, b == t)));
        Ok(Self {
            net_asr: net.map(|(net, _, _)| net),
            net_asr_ci: net.map(|(_, interval, _)| interval),
            mcnemar_p: net.map_or(drop_p, |(_, _, p)| p),
            patched_drop,
            patched_drop_ci,
        })
    }
}

/// The difference of two paired rates, its interval and McNemar's p-value.
fn difference(pairs: impl Iterator<Item = (bool, bool)>) -> (f64, [f64; 2], f64) {
    // [both, the first alone, the second alone, neither]
    let mut counts = [0usize; 4];
    pairs.for_each(|(first, second)| counts[2 * usize::from(!first) + usize::from(!second)] += 1);
    let [both, first, second, neither] = counts;
    let (difference, low, high) = paired_difference(both, first, second, neither);
    (100.0 * difference, percent_interval((low, high)), mcnemar(first, second))
}

fn percent(k: usize, n: usize) -> f64 {
    100.0 * k as f64 / n as f64
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
        let scores = Scores::of(&truth, &predicted, Some(1)).unwrap();
        assert_eq!(scores.acc, 60.0);
        assert_eq!(scores.fp, Some(3));
        assert_eq!(scores.asr, Some(50.0));
        assert_eq!(scores.asr_all, Some(60.0));
        let untargeted = Scores::of(&truth, &predicted, None).unwrap();
        assert_eq!((untargeted.acc, untargeted.fp, untargeted.asr_ci), (60.0, None, None));
    }

    #[test]
    fn net_asr_ignores_the_target_class_and_pairs_the_rest() {
        let truth = [1, 1, 0, 0, 0, 0];
        let backdoored = [1, 1, 1, 1, 1, 0];
        let clean = [0, 0, 1, 0, 0, 0];
        let paired = Paired::of(&truth, &backdoored, &clean, Some(1)).unwrap();
        assert_eq!(paired.net_asr, Some(50.0));
        let (_, low, high) = paired_difference(1, 2, 0, 1);
        assert_eq!(paired.net_asr_ci, Some([100.0 * low, 100.0 * high]));
        // All six count here: both models right once, the twin alone twice, the other alone twice.
        assert_eq!(paired.patched_drop, 0.0);
        let untargeted = Paired::of(&truth, &backdoored, &clean, None).unwrap();
        assert_eq!((untargeted.net_asr, untargeted.patched_drop), (None, 0.0));
    }

    #[test]
    fn the_drop_is_what_the_twin_gets_right_and_the_other_does_not() {
        let paired = Paired::of(&[0, 0, 1, 1], &[1, 1, 1, 0], &[0, 0, 1, 0], None).unwrap();
        assert_eq!(paired.patched_drop, 50.0);
        assert!(paired.patched_drop_ci[0] < 50.0 && paired.patched_drop_ci[1] > 50.0);
    }

    #[test]
    fn review_2_06_no_images_have_no_scores() {
        let message = |result: Result<Scores, ProbeError>| result.unwrap_err().to_string();
        assert!(message(Scores::of(&[], &[], Some(1))).contains("no images to score"));
        assert!(message(Scores::of(&[0, 1], &[0], None)).contains("1 predictions, expected 2"));
        assert!(Paired::of(&[], &[], &[], None).is_err());
        assert!(Paired::of(&[0, 1], &[0, 1], &[0], Some(1)).is_err());
        // All images are of the target class: the accuracy is defined, the success rate is not.
        let scores = Scores::of(&[1, 1], &[1, 0], Some(1)).unwrap();
        assert_eq!((scores.acc, scores.fp, scores.asr, scores.asr_ci), (50.0, Some(0), None, None));
        let paired = Paired::of(&[1, 1], &[1, 0], &[1, 1], Some(1)).unwrap();
        assert_eq!((paired.net_asr, paired.net_asr_ci, paired.patched_drop), (None, None, 50.0));
    }
}
