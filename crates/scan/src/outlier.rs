//! Where a falling curve has its knee, and how far the smallest of several values lies from the others.

/// The median absolute deviation of a normal distribution times this is its standard deviation.
const NORMAL: f64 = 1.4826;

/// The position of the knee of a falling curve: where it lies farthest below the straight line from its first to its last
/// value, or the first such position in case of a tie.
pub fn knee(curve: &[f64]) -> usize {
    let (Some(first), Some(last)) = (curve.first(), curve.last()) else { return 0 };
    let steps = (curve.len() - 1).max(1) as f64;
    let below = |i: usize| first + (last - first) * i as f64 / steps - curve[i];
    (1..curve.len()).fold(0, |best, i| if below(i) > below(best) { i } else { best })
}

/// How far the smallest of `areas` lies below their median, in standard deviations. The standard deviation is the
/// median absolute deviation, scaled once as for a normal distribution. That deviation counts as at least `least`,
/// because it is 0 for equal areas. `None` for fewer than four areas.
pub fn anomaly(areas: &[f64], least: f64) -> Option<f64> {
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        if sorted.len().is_multiple_of(2) {
            (sorted[half - 1] + sorted[half]) / 2.0
        } else {
            sorted[half]
        }
    };
    if areas.len() < 4 {
        return None;
    }
    let middle = median(areas);
    let deviations: Vec<f64> = areas.iter().map(|area| (area - middle).abs()).collect();
    let smallest = areas.iter().copied().fold(f64::INFINITY, f64::min);
    Some((middle - smallest) / (NORMAL * median(&deviations).max(least)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_the_curve_lies_farthest_below_its_chord() {
        assert_eq!(knee(&[100.0, 40.0, 20.0, 15.0, 12.0, 10.0]), 2);
        assert_eq!(knee(&[3.0, 2.0, 1.0]), 0);
        assert_eq!((knee(&[]), knee(&[4.0]), knee(&[1.0; 5])), (0, 0, 0));
    }

    #[test]
    fn the_deviation_is_scaled_once() {
        // 0.4 / scipy.stats.median_abs_deviation([0.1, 0.48, 0.5, 0.52, 0.54], scale="normal")
        let areas = [0.1, 0.48, 0.5, 0.52, 0.54];
        let expected = 13.489795003921623;
        assert!((anomaly(&areas, 1e-6).unwrap() / expected - 1.0).abs() < 1e-4);
        assert_eq!(anomaly(&[0.5; 6], 1e-3), Some(0.0));
        let one = anomaly(&[0.5, 0.5, 0.5, 0.5, 0.1], 1e-3).unwrap();
        assert!(one.is_finite() && one > 100.0);
        assert_eq!(anomaly(&[0.5, 0.1, 0.3], 1e-3), None);
    }
}
