//! Tests whether a figure decreases along ordered settings, over units.

use serde::{Deserialize, Serialize};

use super::sign_flip::{Alternative, sign_flip};

/// A trend over ordered settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Mean slope over the rows: the change of the figure from one setting to the next; below 0 where it falls.
    pub mean_slope: f64,
    /// One-sided p-value of a mean slope below 0.
    pub p: f64,
    /// Whether all assignments of signs were counted, not a drawn part of them.
    pub exact: bool,
}

/// Tests whether a figure falls along ordered settings, such as the accuracy of a student along falling clean shares:
/// each row is one unit (a pair), with its figures in the order of the settings.
///
/// A row's slope is that of the least-squares line through its figures over their ranks 0, 1, 2, …: with Pearson's
/// orthogonal contrast for a linear trend, slope = Σ (k − k̄) yₖ / Σ (k − k̄)². Ranks make no assumption about the
/// distances between settings; shares of 25, 10 and 5 % count as equally far apart. The slopes are tested by an exact
/// [sign-flip test](sign_flip), with 100,000 drawn assignments of signs from `seed` above 20 rows.
///
/// None for fewer than two rows, for rows of different lengths or of fewer than two figures, or if a figure is not
/// finite.
pub fn trend(rows: &[Vec<f64>], seed: u64) -> Option<Trend> {
    let length = rows.first()?.len();
    if length < 2 || rows.iter().any(|row| row.len() != length) {
        return None;
    }
    let slopes: Vec<f64> = rows.iter().map(|row| slope(row)).collect();
    let test = sign_flip(&slopes, Alternative::Less, seed)?;
    Some(Trend { mean_slope: test.mean, p: test.p, exact: test.exact })
}

/// Slope of the least-squares line through `figures` over their ranks; at least two figures.
fn slope(figures: &[f64]) -> f64 {
    let center = (figures.len() - 1) as f64 / 2.0;
    let ranks = || (0..figures.len()).map(|k| k as f64 - center);
    let products: f64 = ranks().zip(figures).map(|(k, y)| k * y).sum();
    products / ranks().map(|k| k * k).sum::<f64>()
}

/// Slope of the least-squares line through the points (`x`, `y`): Σ (x − x̄) y / Σ (x − x̄)². None for lists of different
/// lengths, for fewer than two different x, or if a value is not finite.
pub fn slope_over(x: &[f64], y: &[f64]) -> Option<f64> {
    let finite = x.iter().chain(y).all(|value| value.is_finite());
    let center = x.iter().sum::<f64>() / x.len() as f64;
    let spread: f64 = x.iter().map(|x| (x - center).powi(2)).sum();
    if !finite || x.len() != y.len() || x.is_empty() || spread <= 0.0 {
        return None;
    }
    Some(x.iter().zip(y).map(|(x, y)| (x - center) * y).sum::<f64>() / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_equals_that_of_numpy() {
        // numpy.polyfit([8, 18, 28, 37], [1, 0.5, 4, 6.25], 1)[0]
        let got = slope_over(&[8.0, 18.0, 28.0, 37.0], &[1.0, 0.5, 4.0, 6.25]).unwrap();
        assert!((got - 0.197_424_322_889_006_94).abs() < 1e-12, "{got}");
        // Over ranks, it is that of a trend.
        assert!((slope_over(&[0.0, 1.0, 2.0], &[90.0, 85.0, 60.0]).unwrap() + 15.0).abs() < 1e-12);
        for (x, y) in [
            (&[1.0, 1.0][..], &[2.0, 3.0][..]),
            (&[1.0], &[1.0]),
            (&[], &[]),
            (&[1.0, 2.0], &[1.0]),
        ] {
            assert_eq!(slope_over(x, y), None);
        }
        assert_eq!(slope_over(&[1.0, f64::NAN], &[1.0, 2.0]), None);
    }

    #[test]
    fn slopes_equal_hand_work() {
        assert_eq!(slope(&[5.0, 2.0]), -3.0);
        // Over ranks -1, 0, 1: (-90 + 60) / 2, whatever lies in the middle.
        assert_eq!(slope(&[90.0, 85.0, 60.0]), -15.0);
        // Over ranks -1.5, -.5, .5, 1.5: (-1.5 · 1 - .5 · 2 + .5 · 4 + 1.5 · 3) / 5.
        assert_eq!(slope(&[1.0, 2.0, 4.0, 3.0]), 0.8);
    }

    #[test]
    fn falling_rows_have_the_smallest_p() {
        let falls: Vec<_> = (0..10).map(|i| vec![90.0 + f64::from(i), 80.0, 70.0]).collect();
        let got = trend(&falls, 1).unwrap();
        // Slopes -10, -10.5, …, -14.5.
        assert_eq!(got, Trend { mean_slope: -12.25, p: 1.0 / 1024.0, exact: true });
        let rises: Vec<_> = falls.iter().map(|row| row.iter().rev().copied().collect()).collect();
        let got = trend(&rises, 1).unwrap();
        assert_eq!((got.mean_slope, got.p), (12.25, 1.0));
        // Slopes 1, -2 and -3; sums of ±1 ±2 ±3 at most -4: two of eight.
        let mixed = [vec![1.0, 2.0], vec![2.0, 0.0], vec![4.0, 1.0]];
        assert_eq!(trend(&mixed, 1).unwrap().p, 2.0 / 8.0);
        // Flat rows are no trend.
        assert_eq!(trend(&[vec![3.0; 3], vec![5.0; 3]], 1).unwrap().p, 1.0);
    }

    #[test]
    fn what_cannot_be_tested_is_none() {
        for bad in [
            vec![],
            vec![vec![3.0, 2.0]],
            vec![vec![], vec![]],
            vec![vec![3.0], vec![2.0]],
            vec![vec![3.0, 2.0], vec![3.0, 2.0, 1.0]],
            vec![vec![3.0, 2.0], vec![f64::NAN, 2.0]],
            vec![vec![3.0, 2.0], vec![f64::INFINITY, 2.0]],
        ] {
            assert_eq!(trend(&bad, 1), None, "{bad:?}");
        }
    }
}
