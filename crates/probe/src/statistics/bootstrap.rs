//! The BCa bootstrap interval of a mean.

use rand::RngExt;
use statrs::distribution::{ContinuousCDF, Normal};

use super::resampling::{Draw, TIE, draws};

/// Bootstrap samples.
const SAMPLES: usize = 10_000;

/// The 95 % interval of the mean of `values` (one per unit, such as a pair) by the bias-corrected and accelerated
/// bootstrap: Efron, Journal of the American Statistical Association 82, 1987; with the acceleration from the jackknife
/// as in Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 14.3.
///
/// 10,000 samples of n units with replacement are drawn from `seed`. With z₀ the normal quantile of the share of sample
/// means below the mean (those equal to it count half) and a = Σd³ / (6 (Σd²)^1.5) over the deviations d from the mean,
/// the limits are the quantiles Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z))) of the sample means at z = ±1.96, interpolated
/// linearly. Where z₀ or a is not finite (values that do not vary) they are the percentiles 2.5 and 97.5.
///
/// The limits lie within the range of the values. With few units the interval is too narrow: report Student's beside it.
///
/// None for fewer than two values, or if one is not finite.
pub fn bootstrap(values: &[f64], seed: u64) -> Option<[f64; 2]> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let largest = values.iter().fold(0.0f64, |largest, v| largest.max((v - mean).abs()));
    if !(mean.is_finite() && largest.is_finite()) {
        return None;
    }
    // Deviations in units of the largest: the limits shift and scale with the values, and no power overflows.
    let unit = if largest > 0.0 { largest } else { 1.0 };
    let deviations: Vec<f64> = values.iter().map(|v| (v - mean) / unit).collect();
    let mut rng = draws(seed, Draw::Units);
    let mut means: Vec<f64> = (0..SAMPLES)
        .map(|_| (0..values.len()).map(|_| deviations[rng.random_range(0..values.len())]).sum())
        .map(|sum: f64| sum / n)
        .collect();
    means.sort_by(f64::total_cmp);
    let levels = bca_levels(&means, &deviations).unwrap_or([0.025, 0.975]);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(levels.map(|level| (mean + unit * quantile(&means, level)).clamp(low, high)))
}

/// The shares of the sample means (sorted) that lie below BCa's limits; none if they are not finite. Means and
/// deviations are relative to the mean of the values, in units of the largest deviation.
fn bca_levels(means: &[f64], deviations: &[f64]) -> Option<[f64; 2]> {
    let normal = Normal::standard();
    let below = means.partition_point(|m| *m < -TIE);
    let not_above = means.partition_point(|m| *m <= TIE);
    let bias = normal.inverse_cdf((below + not_above) as f64 / (2 * means.len()) as f64);
    let power = |k: i32| deviations.iter().map(|d| d.powi(k)).sum::<f64>();
    let acceleration = power(3) / (6.0 * power(2).powf(1.5));
    let z = normal.inverse_cdf(0.975);
    let levels = [-z, z].map(|z| {
        let shifted = bias + z;
        normal.cdf(bias + shifted / (1.0 - acceleration * shifted))
    });
    (bias.is_finite() && acceleration.is_finite() && levels.iter().all(|l| l.is_finite()))
        .then_some(levels)
}

/// The quantile of sorted values by linear interpolation (NumPy's default).
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let at = level * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_equal_numpys() {
        // numpy.quantile([1, 2, 4, 8], q)
        for (level, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            let got = quantile(&[1.0, 2.0, 4.0, 8.0], level);
            assert!((got - expected).abs() < 1e-12, "{level}: {got}");
        }
    }

    #[test]
    fn values_that_do_not_vary_are_their_own_interval() {
        assert_eq!(bootstrap(&[0.1; 3], 1), Some([0.1, 0.1]));
        assert_eq!(bootstrap(&[0.0; 10], 1), Some([0.0, 0.0]));
    }

    #[test]
    fn the_seed_is_the_only_chance() {
        let values = [2.5, 23.8, -0.3, 1.2, 6.5];
        assert_eq!(bootstrap(&values, 1), bootstrap(&values, 1));
        assert_ne!(bootstrap(&values, 1), bootstrap(&values, 2));
    }

    #[test]
    fn what_has_no_interval_is_none() {
        for bad in [&[][..], &[1.0], &[1.0, f64::NAN], &[1.0, f64::INFINITY], &[1e308, 1e308]] {
            assert_eq!(bootstrap(bad, 1), None, "{bad:?}");
        }
    }
}
