//! Intervals of a mean by Student's t-distribution.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The statistics of a sample that Student's methods need.
pub(super) struct Sample {
    /// Mean.
    pub mean: f64,
    /// Standard error of the mean; exactly 0 where all values are equal.
    pub error: f64,
    /// Student's distribution with n − 1 degrees of freedom.
    pub t: StudentsT,
}

impl Sample {
    /// None for fewer than two values, or if one is not finite.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let (first, rest) = values.split_first()?;
        let n = values.len() as f64;
        let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
        let (mean, error) = if rest.iter().all(|v| v == first) {
            // The rounded sum of equal values can differ from n times the value, which would look like variance.
            (*first, 0.0)
        } else {
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
            (mean, (variance / n).sqrt())
        };
        (mean.is_finite() && error.is_finite()).then_some(Self { mean, error, t })
    }

    /// The mean's lower and upper one-sided confidence bounds at `level`, 0.5 to 1; none if one is not finite.
    pub(super) fn bounds(&self, level: f64) -> Option<[f64; 2]> {
        let half = self.t.inverse_cdf(level) * self.error;
        let bounds = [self.mean - half, self.mean + half];
        bounds.iter().all(|bound| bound.is_finite()).then_some(bounds)
    }
}

/// The mean of `values` with Student's 95 % interval: (mean, lower, upper); none for fewer than two, or if one is not
/// finite.
pub fn student(values: &[f64]) -> Option<(f64, f64, f64)> {
    let sample = Sample::of(values)?;
    let [lower, upper] = sample.bounds(0.975)?;
    Some((sample.mean, lower, upper))
}

/// The one-sided upper confidence bound of the mean, mean + t(`level`, n − 1) · s / √n: with `level` = 0.95, 95 % of
/// such bounds lie above the true mean.
///
/// None for fewer than two values, if one is not finite, or for a `level` outside [0.5, 1).
pub fn upper_bound(values: &[f64], level: f64) -> Option<f64> {
    if !(0.5..1.0).contains(&level) {
        return None;
    }
    Sample::of(values)?.bounds(level).map(|[_, upper]| upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_equal_scipys() {
        // scipy.stats.t.interval(0.95, 3, mean, sem) of 2, 4, 4, 7.
        let (mean, low, high) = student(&[2.0, 4.0, 4.0, 7.0]).unwrap();
        for (got, expected) in [(mean, 4.25), (low, 0.969_609_4), (high, 7.530_390_6)] {
            assert!((got - expected).abs() < 5e-7, "{got} {expected}");
        }
    }

    #[test]
    fn review_2_06_nothing_measured_has_no_interval() {
        assert_eq!(student(&[]), None);
        assert_eq!(student(&[1.0]), None);
        assert_eq!(student(&[1.0, f64::NAN, 2.0]), None);
        assert_eq!(student(&[1.0, f64::INFINITY]), None);
        assert_eq!(student(&[f64::INFINITY; 2]), None);
        assert_eq!(student(&[3.0, 3.0]), Some((3.0, 3.0, 3.0)));
    }

    #[test]
    fn equal_values_have_no_width() {
        // 0.1 + 0.1 + 0.1 is not 0.3 in binary.
        assert_eq!(student(&[0.1; 3]), Some((0.1, 0.1, 0.1)));
        assert_eq!(upper_bound(&[0.1; 3], 0.95), Some(0.1));
    }

    #[test]
    fn bounds_need_values_and_a_level() {
        let values = [1.0, 2.0, 4.0];
        for level in [f64::NAN, -1.0, 0.0, 0.49, 1.0, 2.0] {
            assert_eq!(upper_bound(&values, level), None, "{level}");
        }
        let mean = upper_bound(&values, 0.5).unwrap();
        assert!((mean - 7.0 / 3.0).abs() < 1e-9, "{mean}");
        assert!(upper_bound(&values, 0.99) > upper_bound(&values, 0.95));
        for bad in [&[][..], &[1.0], &[1.0, f64::NAN]] {
            assert_eq!(upper_bound(bad, 0.95), None);
        }
    }
}
