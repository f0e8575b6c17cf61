//! The sign-flip test: a permutation test of paired differences.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::resampling::{Count, Draw, TIE, draws};

/// Up to this many values all 2ⁿ assignments of signs are counted.
const EXACT: usize = 20;
/// Assignments drawn where there are too many to count.
const DRAWN: usize = 100_000;

/// The side of 0 on which the mean is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alternative {
    /// Above 0.
    Greater,
    /// Below 0.
    Less,
    /// On either side.
    TwoSided,
}

/// The outcome of a sign-flip test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignFlip {
    /// Mean of the values.
    pub mean: f64,
    /// p-value.
    pub p: f64,
    /// Whether all assignments of signs were counted, not a drawn part of them.
    pub exact: bool,
}

/// Tests whether the mean of `values`, one difference per unit (such as the net ASR of a pair), is 0: the share of the
/// assignments of signs to the values whose mean is at least as extreme as the one observed (Fisher, The Design of
/// Experiments, 1935, section 21). The null hypothesis is that each difference is distributed symmetrically about 0.
///
/// All 2ⁿ assignments are counted for n ≤ 20, so p is at least 2⁻ⁿ; above that 100,000 are drawn from `seed`, and p is
/// (b + 1) / (m + 1). `seed` has no effect on an exact test.
///
/// To compare two groups of methods that were measured on the same pairs, give one value per pair: the mean over the
/// first group − the mean over the second.
///
/// None for fewer than two values, or if one is not finite.
pub fn sign_flip(values: &[f64], alternative: Alternative, seed: u64) -> Option<SignFlip> {
    if values.len() < 2 {
        return None;
    }
    let scale = values.iter().map(|v| v.abs()).sum::<f64>();
    // Also false if a value is not finite.
    if !scale.is_finite() {
        return None;
    }
    let count = if values.len() <= EXACT {
        exact(values, alternative, scale)
    } else {
        drawn(values, alternative, scale, seed)
    };
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Some(SignFlip { mean, p: count.p(), exact: count.exact })
}

/// Whether the sum of flipped values is at least as extreme as the observed sum.
fn extreme(sum: f64, observed: f64, alternative: Alternative, scale: f64) -> bool {
    let tie = TIE * scale;
    match alternative {
        Alternative::Greater => sum >= observed - tie,
        Alternative::Less => sum <= observed + tie,
        Alternative::TwoSided => sum.abs() >= observed.abs() - tie,
    }
}

/// The sum of the values, with the sign flipped where the bit is set.
fn flipped(values: &[f64], bits: impl Iterator<Item = bool>) -> f64 {
    values.iter().zip(bits).map(|(v, flip)| if flip { -v } else { *v }).sum()
}

fn exact(values: &[f64], alternative: Alternative, scale: f64) -> Count {
    let observed = values.iter().sum();
    let resamples = 1usize << values.len();
    let sum = |signs: usize| flipped(values, (0..).map(|i| signs >> i & 1 == 1));
    let extreme = (0..resamples).filter(|&s| extreme(sum(s), observed, alternative, scale)).count();
    Count { extreme, resamples, exact: true }
}

fn drawn(values: &[f64], alternative: Alternative, scale: f64, seed: u64) -> Count {
    let observed = values.iter().sum();
    let mut rng = draws(seed, Draw::Signs);
    let mut signs = vec![0u64; values.len().div_ceil(64)];
    let extreme = (0..DRAWN)
        .filter(|_| {
            signs.fill_with(|| rng.next_u64());
            let bits = (0..).map(|i| signs[i / 64] >> (i % 64) & 1 == 1);
            extreme(flipped(values, bits), observed, alternative, scale)
        })
        .count();
    Count { extreme, resamples: DRAWN, exact: false }
}

#[cfg(test)]
mod tests {
    use super::Alternative::{Greater, Less, TwoSided};
    use super::*;

    fn p(values: &[f64], alternative: Alternative) -> f64 {
        sign_flip(values, alternative, 1).unwrap().p
    }

    #[test]
    fn few_values_equal_hand_work() {
        // Sums of ±1 ±2 ±3: 6, 4, 2, 0, 0, -2, -4, -6.
        assert_eq!(p(&[1.0, 2.0, 3.0], Greater), 1.0 / 8.0);
        assert_eq!(p(&[-1.0, 2.0, 3.0], Greater), 2.0 / 8.0);
        assert_eq!(p(&[1.0, 2.0, -3.0], Greater), 5.0 / 8.0);
        assert_eq!(p(&[-1.0, 2.0, 3.0], Less), 7.0 / 8.0);
        assert_eq!(p(&[-1.0, 2.0, 3.0], TwoSided), 4.0 / 8.0);
        assert_eq!(p(&[0.0; 4], Greater), 1.0);
        // Ten pairs of one sign: the smallest possible p.
        assert_eq!(p(&[0.3; 10], Greater), 1.0 / 1024.0);
        assert!(sign_flip(&[0.3; 10], Greater, 1).unwrap().exact);
    }

    #[test]
    fn equal_sums_are_ties_in_spite_of_rounding() {
        // Sums of ±.1 ±.2 ±.3 that are 0 on paper, not in binary.
        assert_eq!(p(&[0.1, 0.2, -0.3], Greater), 5.0 / 8.0);
        assert_eq!(p(&[96.4 - 96.3, 96.5 - 96.3, 96.0 - 96.3], Greater), 5.0 / 8.0);
    }

    /// Sums of integers, whose distribution is counted by convolution.
    #[test]
    fn drawn_signs_agree_with_the_exact_distribution() {
        let values: Vec<f64> = (0..30).map(|i| f64::from((i * 7) % 11 - 4)).collect();
        let observed: i64 = values.iter().map(|v| *v as i64).sum();
        let mut ways = std::collections::BTreeMap::from([(0i64, 1.0f64)]);
        for &v in &values {
            let mut next = std::collections::BTreeMap::new();
            for (sum, share) in ways {
                *next.entry(sum + v as i64).or_insert(0.0) += share / 2.0;
                *next.entry(sum - v as i64).or_insert(0.0) += share / 2.0;
            }
            ways = next;
        }
        let exact: f64 = ways.range(observed..).map(|(_, share)| share).sum();
        assert!((0.01..0.1).contains(&exact), "{exact}");
        // Four standard deviations of a share of 100,000 draws.
        let room = 4.0 * (exact * (1.0 - exact) / DRAWN as f64).sqrt();
        for seed in 0..3 {
            let test = sign_flip(&values, Greater, seed).unwrap();
            assert!(!test.exact);
            assert!((test.p - exact).abs() < room, "{} {exact}", test.p);
            assert_eq!(sign_flip(&values, Greater, seed), Some(test));
            let two = sign_flip(&values, TwoSided, seed).unwrap().p;
            assert!((two - 2.0 * exact).abs() < 2.0 * room, "{two} {exact}");
        }
        assert_ne!(sign_flip(&values, Greater, 0), sign_flip(&values, Greater, 1));
    }

    #[test]
    fn drawn_p_values_are_never_zero() {
        // Signs are drawn in words of 64.
        for n in [21, 64, 65, 200] {
            assert_eq!(p(&vec![1.0; n], Greater), 1.0 / (DRAWN + 1) as f64, "{n}");
            assert_eq!(p(&vec![1.0; n], Less), 1.0, "{n}");
        }
    }

    #[test]
    fn what_cannot_be_tested_is_none() {
        for bad in [&[][..], &[1.0], &[1.0, f64::NAN], &[1.0, f64::INFINITY], &[1e308, 1e308]] {
            assert_eq!(sign_flip(bad, Greater, 1), None, "{bad:?}");
        }
    }
}
