//! 95 % intervals of proportions, and McNemar's test.

use statrs::distribution::{Binomial, DiscreteCDF};

/// The 97.5 % point of the normal distribution.
pub(super) const Z: f64 = 1.959_963_984_540_054;

/// Wilson's score interval of `k` out of `n`, as shares; (0, 1) for no trials. A `k` above `n` counts as `n`.
pub fn wilson(k: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let k = k.min(n);
    let (n, p) = (n as f64, k as f64 / n as f64);
    let center = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((center - half) / scale).max(0.0), ((center + half) / scale).min(1.0))
}

/// The difference p₁ − p₂ of two proportions of the *same* n subjects with its interval, by
/// Newcombe's paired method (Statistics in Medicine 17, 1998, method 10): Wilson limits combined
/// through the correlation φ, its numerator corrected for continuity.
///
/// The four counts are the subjects positive in both, in the first alone, in the second alone, and
/// in neither. Returns (difference, lower, upper); (0, −1, 1) for no subjects.
pub fn paired_difference(
    both: usize,
    first: usize,
    second: usize,
    neither: usize,
) -> (f64, f64, f64) {
    let n = both + first + second + neither;
    if n == 0 {
        return (0.0, -1.0, 1.0);
    }
    let [a, b, c, d, total] = [both, first, second, neither, n].map(|v| v as f64);
    let (p1, p2) = ((a + b) / total, (a + c) / total);
    let (low1, high1) = wilson(both + first, n);
    let (low2, high2) = wilson(both + second, n);
    let marginals = (a + b) * (c + d) * (a + c) * (b + d);
    let cross = a * d - b * c;
    let corrected = if cross > 0.0 { (cross - total / 2.0).max(0.0) } else { cross };
    let phi = if marginals == 0.0 { 0.0 } else { corrected / marginals.sqrt() };
    let combine = |x: f64, y: f64| (x * x - 2.0 * phi * x * y + y * y).max(0.0).sqrt();
    let difference = p1 - p2;
    let lower = difference - combine(p1 - low1, high2 - p2);
    let upper = difference + combine(high1 - p1, p2 - low2);
    (difference, lower, upper)
}

/// McNemar's exact two-sided test: the probability, if both members of a pair are positive equally often, that the
/// counts of pairs with only the `first` and with only the `second` positive differ at least as much as these.
pub fn mcnemar(first: usize, second: usize) -> f64 {
    let n = (first + second) as u64;
    // The distribution exists for every n at p = 1/2; without pairs there is no evidence against equality.
    Binomial::new(0.5, n).map_or(1.0, |d| (2.0 * d.cdf(first.min(second) as u64)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64, digits: i32) {
        assert!((got - expected).abs() < 0.5 * 10f64.powi(-digits), "{got} {expected}");
    }

    #[test]
    fn wilson_equals_published_values() {
        // Newcombe 1998 (Stat. Med. 17, 857), table I, method 3.
        for (k, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (l, h) = wilson(k, n);
            near(l, low, 4);
            near(h, high, 4);
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        assert_eq!(wilson(7, 7).1, 1.0);
    }

    #[test]
    fn paired_differences_equal_published_values() {
        // Altman et al., Statistics with Confidence (2000), chapter 6: 14, 5, 0 and 22 pairs.
        let (difference, low, high) = paired_difference(14, 5, 0, 22);
        near(difference, 0.122, 3);
        near(low, 0.011, 3);
        near(high, 0.226, 3);
    }

    #[test]
    fn tests_equal_scipys() {
        // scipy 1.17: binomtest(min(b, c), b + c, 0.5).pvalue
        for (first, second, p) in [
            (5, 0, 0.0625),
            (40, 5, 7.878_384e-8),
            (121, 59, 4.434_449_3e-6),
            (3, 3, 1.0),
            (0, 0, 1.0),
        ] {
            let got = mcnemar(first, second);
            assert!((got - p).abs() <= 1e-6 * p, "{first} {second}: {got:e}");
            assert_eq!(got, mcnemar(second, first));
        }
    }

    #[test]
    fn review_2_06_nothing_measured_has_no_interval() {
        assert_eq!(paired_difference(0, 0, 0, 0), (0.0, -1.0, 1.0));
        assert_eq!(wilson(9, 7), wilson(7, 7));
    }

    #[test]
    fn swapping_the_two_mirrors_the_interval() {
        let (d, low, high) = paired_difference(10, 40, 5, 945);
        let (e, low2, high2) = paired_difference(10, 5, 40, 945);
        for (x, y) in [(d, -e), (low, -high2), (high, -low2)] {
            near(x, y, 12);
        }
        assert!(low > 0.0 && low < d && d < high);
        let (zero, low, high) = paired_difference(0, 0, 0, 100);
        assert!(zero == 0.0 && low < 0.0 && high > 0.0);
    }
}
