//! Properties that hold for every sample.

use proptest::prelude::*;

use super::Alternative::{Greater, Less, TwoSided};
use super::*;

fn values(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
    // Tenths of points, so that ties are common.
    prop::collection::vec((-300..300i32).prop_map(|v| f64::from(v) / 10.0), n)
}

/// Mostly few values, because all signs of 20 values are a million sums.
fn flips() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![7 => values(2..12), 1 => values(21..24)]
}

fn pairs() -> impl Strategy<Value = Vec<Destinations>> {
    let pair = (0..6usize, prop::collection::vec(-50.0..50.0f64, 6));
    let pair = pair.prop_map(|(target, flow)| Destinations { target, flow });
    prop_oneof![7 => prop::collection::vec(pair.clone(), 2..9), 1 => prop::collection::vec(pair, 11..14)]
}

/// Any bit pattern, including NaN, infinities and numbers whose squares overflow.
fn anything() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![any::<f64>(), Just(0.0), Just(f64::MAX)], 0..24)
}

fn is_p(p: f64) -> bool {
    (0.0..=1.0).contains(&p)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn sign_flips_are_p_values_on_both_sides(values in flips(), seed: u64) {
        let p = |values: &[f64], side| sign_flip(values, side, seed).unwrap().p;
        let opposite: Vec<f64> = values.iter().map(|v| -v).collect();
        let [greater, less, two] = [Greater, Less, TwoSided].map(|side| p(&values, side));
        prop_assert!([greater, less, two].into_iter().all(|p| p > 0.0 && p <= 1.0));
        prop_assert_eq!(less, p(&opposite, Greater));
        prop_assert_eq!(two, p(&opposite, TwoSided));
        // Every assignment of signs is on one side or the other, and ties are on both.
        prop_assert!(greater + less >= 1.0);
        if values.len() <= 20 {
            prop_assert_eq!(two, (2.0 * greater.min(less)).min(1.0));
        }
    }

    #[test]
    fn equivalence_follows_the_margin(values in values(2..24), margin in 0.1..40.0f64) {
        let of = |margin| equivalence(&values, margin).unwrap();
        let (narrow, wide) = (of(margin), of(2.0 * margin));
        prop_assert!(is_p(narrow.p) && is_p(wide.p) && wide.p <= narrow.p + 1e-12);
        let [low, high] = narrow.interval90;
        prop_assert!(low <= narrow.mean && narrow.mean <= high);
        prop_assert_eq!(narrow.p < 0.05, -margin < low && high < margin);
        prop_assert_eq!(upper_bound(&values, 0.95).unwrap(), high);
    }

    #[test]
    fn holm_raises_and_keeps_the_order(p_values in prop::collection::vec(0.0..=1.0f64, 0..12)) {
        let adjusted = holm(&p_values).unwrap();
        prop_assert_eq!(adjusted.len(), p_values.len());
        for (i, (&p, &a)) in p_values.iter().zip(&adjusted).enumerate() {
            prop_assert!(is_p(a) && a >= p);
            // Never above Bonferroni's.
            prop_assert!(a <= (p * p_values.len() as f64).min(1.0).max(p));
            for (&q, &b) in p_values.iter().zip(&adjusted).skip(i) {
                prop_assert!((p <= q && a <= b) || (q <= p && b <= a));
            }
        }
    }

    #[test]
    fn bootstrap_limits_move_with_the_values(
        values in values(2..20), shift in -100.0..100.0f64, scale in 0.01..100.0f64, seed: u64,
    ) {
        let [low, high] = bootstrap(&values, seed).unwrap();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        prop_assert!(least <= low && low <= high && high <= most);
        let moved: Vec<f64> = values.iter().map(|v| scale * v + shift).collect();
        let mirrored: Vec<f64> = values.iter().map(|v| -v).collect();
        let [low2, high2] = bootstrap(&moved, seed).unwrap();
        let [low3, high3] = bootstrap(&mirrored, seed).unwrap();
        let room = 1e-9 * (scale * 30.0 + 100.0);
        prop_assert!((low2 - (scale * low + shift)).abs() < room);
        prop_assert!((high2 - (scale * high + shift)).abs() < room);
        prop_assert!((low3 + high).abs() < 1e-7 && (high3 + low).abs() < 1e-7);
    }

    #[test]
    fn targeting_does_not_depend_on_names(pairs in pairs(), shift in 0..6usize, seed: u64) {
        let got = targeting(&pairs, seed).unwrap();
        prop_assert!(got.p > 0.0 && got.p <= 1.0);
        // The classes renumbered.
        let mut renamed = pairs.clone();
        for pair in &mut renamed {
            pair.target = (pair.target + shift) % 6;
            pair.flow.rotate_right(shift);
        }
        prop_assert_eq!(targeting(&renamed, seed).unwrap(), got);
        // The pairs reordered.
        let mut turned = pairs.clone();
        turned.rotate_left(1);
        let turned = targeting(&turned, seed).unwrap();
        prop_assert!((turned.mean - got.mean).abs() < 1e-9);
        prop_assert!((turned.expected - got.expected).abs() < 1e-9);
        if got.exact {
            prop_assert_eq!(turned.p, got.p);
        }
    }

    #[test]
    fn a_level_that_moves_with_the_row_is_no_trend(slopes in values(2..12), level in -50.0..50.0f64) {
        let rows: Vec<Vec<f64>> =
            slopes.iter().enumerate().map(|(i, s)| {
                (0..4).map(|k| level * i as f64 + s * f64::from(k)).collect()
            }).collect();
        let got = trend(&rows, 1).unwrap();
        let test = sign_flip(&slopes, Less, 1).unwrap();
        prop_assert!((got.mean_slope - test.mean).abs() < 1e-9);
        prop_assert_eq!(got.p, test.p);
    }

    /// Any input gives a finite result or none, and never a panic.
    #[test]
    fn no_numbers_panic(
        values in anything(), margin: f64, level in prop_oneof![any::<f64>(), 0.5..1.0f64], seed: u64,
    ) {
        if let Some(got) = equivalence(&values, margin) {
            prop_assert!(is_p(got.p) && got.mean.is_finite());
        }
        if let Some(got) = sign_flip(&values[..values.len().min(12)], TwoSided, seed) {
            prop_assert!(is_p(got.p) && got.mean.is_finite());
        }
        if let Some([low, high]) = bootstrap(&values, seed) {
            prop_assert!(low <= high && low.is_finite() && high.is_finite());
        }
        if let Some(bound) = upper_bound(&values, level) {
            prop_assert!(bound.is_finite());
        }
        if let Some(adjusted) = holm(&values) {
            prop_assert!(adjusted.into_iter().all(is_p));
        }
        let rows: Vec<Vec<f64>> = values.chunks(3).map(<[f64]>::to_vec).collect();
        if let Some(got) = trend(&rows, seed) {
            prop_assert!(is_p(got.p) && got.mean_slope.is_finite());
        }
        let pairs: Vec<_> = rows.into_iter().enumerate()
            .map(|(i, flow)| Destinations { target: i % 4, flow }).collect();
        if let Some(got) = targeting(&pairs, seed) {
            prop_assert!(is_p(got.p) && got.mean.is_finite() && got.expected.is_finite());
        }
    }
}
