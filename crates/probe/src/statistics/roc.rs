//! The area under the ROC curve, with its interval.

use serde::Serialize;

use super::proportion::Z;

/// The area under a ROC curve: the probability that a case has a higher score than a control; ties count half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RocArea {
    /// The area, 0 to 1.
    pub area: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
    /// How many cases and controls there are.
    pub counts: [usize; 2],
}

/// The area under the ROC curve of the scores of `cases` and `controls`; cases should have the higher scores.
///
/// The interval is DeLong's (Biometrics 44, 1988), cut off at 0 and 1. Where it has no width, because the groups do not
/// overlap, or where a group has a single member, it is Newcombe's (Statistics in Medicine 25, 2006, part 2, method 5).
///
/// None if a group is empty or a score is not a number.
pub fn roc_area(cases: &[f64], controls: &[f64]) -> Option<RocArea> {
    if cases.is_empty() || controls.is_empty() || cases.iter().chain(controls).any(|v| v.is_nan()) {
        return None;
    }
    let won = |case: f64, control: f64| match case.total_cmp(&control) {
        _ if case == control => 0.5,
        std::cmp::Ordering::Greater => 1.0,
        _ => 0.0,
    };
    let (m, n) = (cases.len() as f64, controls.len() as f64);
    let of_case = |&case: &f64| controls.iter().map(|&control| won(case, control)).sum::<f64>() / n;
    let of_control = |&control: &f64| cases.iter().map(|&case| won(case, control)).sum::<f64>() / m;
    let by_case: Vec<f64> = cases.iter().map(of_case).collect();
    let by_control: Vec<f64> = controls.iter().map(of_control).collect();
    let area = by_case.iter().sum::<f64>() / m;
    let variance = variance(&by_case, area).zip(variance(&by_control, area));
    let error = variance.map(|(cases, controls)| (cases / m + controls / n).sqrt());
    let interval = match error.filter(|error| *error > 1e-12) {
        Some(error) => [(area - Z * error).max(0.0), (area + Z * error).min(1.0)],
        None => newcombe(area, (m, n)),
    };
    Some(RocArea { area, interval, counts: [cases.len(), controls.len()] })
}

/// Sample variance; none for fewer than two values.
fn variance(values: &[f64], mean: f64) -> Option<f64> {
    let degrees = values.len().checked_sub(1).filter(|degrees| *degrees > 0)?;
    Some(values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / degrees as f64)
}

/// Newcombe's limits: the areas at a distance of [`Z`] standard errors from `area`, each with its own standard error.
fn newcombe(area: f64, (m, n): (f64, f64)) -> [f64; 2] {
    let weight = (m + n) / 2.0 - 1.0;
    let far = |other: f64| {
        let spread = 1.0 + weight * ((1.0 - other) / (2.0 - other) + other / (1.0 + other));
        (area - other).abs() > Z * (other * (1.0 - other) * spread / (m * n)).sqrt()
    };
    // Bisection: `area` itself is not far; the end of the scale is, unless `area` lies there.
    let limit = |end: f64| {
        let (mut near, mut out) = (area, end);
        for _ in 0..60 {
            let middle = (near + out) / 2.0;
            if far(middle) { out = middle } else { near = middle }
        }
        near
    };
    [limit(0.0), limit(1.0)]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<f64>,
        controls: Vec<f64>,
        area: f64,
        interval: [f64; 2],
    }

    /// Areas must equal scikit-learn's; intervals, their definitions in NumPy and SciPy (`tests/fixtures/roc.py`).
    #[test]
    fn areas_are_scikit_learns() {
        let all: Vec<Golden> =
            serde_json::from_str(include_str!("../../tests/fixtures/roc.json")).unwrap();
        assert_eq!(all.len(), 6);
        for Golden { cases, controls, area, interval } in all {
            let found = roc_area(&cases, &controls).unwrap();
            assert!((found.area - area).abs() < 1e-12, "{found:?} {area}");
            assert_eq!(found.counts, [cases.len(), controls.len()]);
            for (a, b) in found.interval.into_iter().zip(interval) {
                assert!((a - b).abs() < 1e-9, "{found:?} {interval:?}");
            }
            // With the groups swapped, the area is the complement.
            let turned = roc_area(&controls, &cases).unwrap();
            assert!((turned.area + area - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn what_has_no_curve_has_no_area() {
        assert_eq!(roc_area(&[], &[1.0]), None);
        assert_eq!(roc_area(&[1.0], &[]), None);
        assert_eq!(roc_area(&[f64::NAN], &[1.0]), None);
        let alike = roc_area(&[2.0; 4], &[2.0; 3]).unwrap();
        assert_eq!(alike.area, 0.5);
        assert!(alike.interval[0] > 0.0 && alike.interval[1] < 1.0, "{alike:?}");
    }
}
