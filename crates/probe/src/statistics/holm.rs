//! Holm's correction of several p-values.

/// Holm's step-down adjusted p-values (Scandinavian Journal of Statistics 6, 1979), in the order given: a hypothesis is
/// rejected at level α with the family-wise error held at α where its adjusted p-value is at most α.
///
/// The k-th smallest of m p-values, counted from 0, becomes the largest of (m − j) · p₍ⱼ₎ over j ≤ k, at most 1. Every
/// hypothesis of the family must be given, including those that are plainly not rejected.
///
/// None if a value is not in [0, 1].
pub fn holm(p_values: &[f64]) -> Option<Vec<f64>> {
    if !p_values.iter().all(|p| (0.0..=1.0).contains(p)) {
        return None;
    }
    let m = p_values.len();
    let mut order: Vec<usize> = (0..m).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; m];
    let mut largest = 0.0f64;
    for (k, i) in order.into_iter().enumerate() {
        largest = largest.max(((m - k) as f64 * p_values[i]).min(1.0));
        adjusted[i] = largest;
    }
    Some(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(p_values: &[f64], expected: &[f64]) {
        let got = holm(p_values).unwrap();
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{p_values:?}: {got} {expected}");
        }
    }

    #[test]
    fn adjusted_values_equal_hand_work() {
        // Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04, and the last is raised to .06.
        near(&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]);
        // Sorted .01, .02, .03 times 3, 2, 1: .03, .04, .03, and the last is raised to .04.
        near(&[0.01, 0.02, 0.03], &[0.03, 0.04, 0.04]);
        // Equal values share the larger factor: .02 · 3 for both, then .5 · 1.
        near(&[0.5, 0.02, 0.02], &[0.5, 0.06, 0.06]);
        // Above 1: .4 · 3, then everything after it is 1 as well.
        near(&[0.9, 0.4, 0.8], &[1.0, 1.0, 1.0]);
        near(&[0.2], &[0.2]);
        near(&[0.0, 1.0], &[0.0, 1.0]);
        near(&[], &[]);
    }

    #[test]
    fn what_is_no_p_value_is_refused() {
        for bad in [f64::NAN, -0.01, 1.01, f64::INFINITY] {
            assert_eq!(holm(&[0.1, bad]), None, "{bad}");
        }
    }
}
