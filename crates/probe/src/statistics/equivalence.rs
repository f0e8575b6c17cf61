//! Equivalence of paired measurements: two one-sided t-tests.

use serde::{Deserialize, Serialize};
use statrs::distribution::ContinuousCDF;

use super::mean::Sample;

/// Whether a mean difference lies within a margin of 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Equivalence {
    /// Mean of the differences.
    pub mean: f64,
    /// Student's 90 % interval of the mean. It lies within ±margin exactly where `p` is below 0.05.
    pub interval90: [f64; 2],
    /// The larger of the two one-sided p-values: small where the mean is within the margin.
    pub p: f64,
}

/// Tests whether the mean of the paired differences `values` lies between −`margin` and `margin`, by two one-sided
/// t-tests (TOST: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987).
///
/// The null hypothesis is a mean at or beyond the margin, so few or noisy values never show equivalence. Where the
/// values do not vary at all, p is 0 for a value inside the margin and 1 for one at or beyond it.
///
/// None for fewer than two values, if one is not finite, or if `margin` is not finite and above 0.
pub fn equivalence(values: &[f64], margin: f64) -> Option<Equivalence> {
    if !(margin.is_finite() && margin > 0.0) {
        return None;
    }
    let sample = Sample::of(values)?;
    let interval90 = sample.bounds(0.95)?;
    let Sample { mean, error, t } = sample;
    let p = if error == 0.0 {
        if mean.abs() < margin { 0.0 } else { 1.0 }
    } else {
        let above_lower = t.sf((mean + margin) / error);
        let below_upper = t.cdf((mean - margin) / error);
        above_lower.max(below_upper)
    };
    Some(Equivalence { mean, interval90, p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_variance_are_decided_by_the_margin() {
        let p = |value: f64, n: usize| equivalence(&vec![value; n], 2.0).unwrap().p;
        assert_eq!(p(0.1, 3), 0.0);
        assert_eq!(p(-1.9, 10), 0.0);
        assert_eq!(p(2.0, 2), 1.0);
        assert_eq!(p(-2.0, 2), 1.0);
        assert_eq!(p(7.0, 5), 1.0);
        // Squares that underflow.
        assert_eq!(equivalence(&[1e-200, 2e-200], 2.0).unwrap().p, 0.0);
    }

    #[test]
    fn what_cannot_be_tested_is_none() {
        for bad in [&[][..], &[1.0], &[1.0, f64::NAN], &[1.0, f64::INFINITY], &[1e308, -1e308]] {
            assert_eq!(equivalence(bad, 2.0), None, "{bad:?}");
        }
        for margin in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(equivalence(&[1.0, 2.0], margin), None, "{margin}");
        }
    }
}
