//! Whether patched images go to the class that was poisoned: a permutation test over models.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::resampling::{Count, Draw, TIE, draws};

/// Up to this many pairs all n! orders of the targets are counted.
const EXACT: usize = 10;
/// Orders drawn where there are too many to count.
const DRAWN: usize = 20_000;

/// Where the patched images of one pair (a target and a trigger) go.
///
/// A pair that was trained with several seeds is one unit: give it once, with the mean flow of its models. Its models
/// share target, trigger and poisoned images, so they are not independent.
#[derive(Debug, Clone, PartialEq)]
pub struct Destinations {
    /// The class that was poisoned.
    pub target: usize,
    /// Net flow to every class, in points: the share of patched images of other classes that the backdoored model
    /// assigns to this class, minus the same for its clean twin. Length: the number of classes.
    pub flow: Vec<f64>,
}

/// Whether the poisoned class decides where patched images go.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Targeting {
    /// Mean net flow at the poisoned class, which is the mean net ASR.
    pub mean: f64,
    /// Mean of the same over all orders of the targets: the mean net flow of a pair at the target of any pair, its own
    /// included. What an attack gives that moves images to some of these classes whichever of them is poisoned.
    pub expected: f64,
    /// One-sided p-value: the share of the orders of the targets with at least this mean.
    pub p: f64,
    /// Whether all orders were counted, not a drawn part of them.
    pub exact: bool,
}

/// Tests whether more patched images go to a class when it is poisoned than when another class of `pairs` is: a
/// one-sided permutation test of the pairing between targets and flows.
///
/// The statistic is the mean over pairs of the flow at the pair's target. Under the null hypothesis the target does
/// not affect where patched images go, so all orders of the targets over the pairs are equally likely. A model that
/// is merely taken over, whose patched images all go to one class, passes such a test only as often as chance allows.
///
/// All n! orders are counted for up to 10 pairs, so p is at least 1 / n!; above that 20,000 are drawn from `seed`, and p
/// is (b + 1) / (m + 1). Pairs may share a target; if all do, p is 1.
///
/// None for fewer than two pairs, for flows of different lengths, for a target that is not a class, or if a flow at one of
/// the targets is not finite.
pub fn targeting(pairs: &[Destinations], seed: u64) -> Option<Targeting> {
    let flows = flows_at_targets(pairs)?;
    let n = pairs.len() as f64;
    // An upper bound on the sum, and the scale for ties.
    let scale: f64 = flows.iter().map(|row| row.iter().fold(0.0f64, |m, v| m.max(v.abs()))).sum();
    let total: f64 = flows.iter().flatten().sum();
    if !(scale.is_finite() && total.is_finite()) {
        return None;
    }
    let observed: f64 = flows.iter().enumerate().map(|(i, row)| row[i]).sum();
    let least = observed - TIE * scale;
    let count =
        if pairs.len() <= EXACT { exact(&flows, least) } else { drawn(&flows, least, seed) };
    Some(Targeting {
        mean: observed / n,
        expected: total / (n * n),
        p: count.p(),
        exact: count.exact,
    })
}

/// Row i, column j: the flow of pair i at the target of pair j.
fn flows_at_targets(pairs: &[Destinations]) -> Option<Vec<Vec<f64>>> {
    let classes = pairs.first()?.flow.len();
    if pairs.len() < 2 || pairs.iter().any(|pair| pair.flow.len() != classes) {
        return None;
    }
    let row = |from: &Destinations| {
        let at = |to: &Destinations| from.flow.get(to.target).copied().filter(|v| v.is_finite());
        pairs.iter().map(at).collect()
    };
    pairs.iter().map(row).collect()
}

/// Counts all orders whose sum is at least `least`.
fn exact(flows: &[Vec<f64>], least: f64) -> Count {
    /// Counts the orders that agree with `order` before `row`, whose sum so far is `sum`.
    fn count(flows: &[Vec<f64>], order: &mut [usize], row: usize, sum: f64, least: f64) -> usize {
        let Some(flow) = flows.get(row) else {
            return usize::from(sum >= least);
        };
        let mut extreme = 0;
        for next in row..order.len() {
            order.swap(row, next);
            extreme += count(flows, order, row + 1, sum + flow[order[row]], least);
            order.swap(row, next);
        }
        extreme
    }
    let mut order: Vec<usize> = (0..flows.len()).collect();
    let extreme = count(flows, &mut order, 0, 0.0, least);
    Count { extreme, resamples: (1..=flows.len()).product(), exact: true }
}

/// Counts the drawn orders whose sum is at least `least`.
fn drawn(flows: &[Vec<f64>], least: f64, seed: u64) -> Count {
    let mut rng = draws(seed, Draw::Targets);
    let mut order: Vec<usize> = (0..flows.len()).collect();
    let extreme = (0..DRAWN)
        .filter(|_| {
            order.shuffle(&mut rng);
            flows.iter().zip(&order).map(|(flow, &j)| flow[j]).sum::<f64>() >= least
        })
        .count();
    Count { extreme, resamples: DRAWN, exact: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs<const N: usize>(rows: [(usize, [f64; N]); N]) -> Vec<Destinations> {
        rows.map(|(target, flow)| Destinations { target, flow: flow.to_vec() }).to_vec()
    }

    #[test]
    fn three_pairs_equal_hand_work() {
        // Flows at the targets 0, 1, 2, one row per pair; the sums over the six orders of the targets:
        // 012: 6 + 5 + 1 = 12    021: 6 + 2 + 3 = 11    102: 1 + 4 + 1 = 6
        // 120: 1 + 2 + 0 = 3     201: 2 + 4 + 3 = 9     210: 2 + 5 + 0 = 7
        let flows = [[6.0, 1.0, 2.0], [4.0, 5.0, 2.0], [0.0, 3.0, 1.0]];
        let of = |targets: [usize; 3]| {
            targeting(&pairs([0, 1, 2].map(|i| (targets[i], flows[i]))), 1).unwrap()
        };
        for (targets, sum, at_least) in [
            ([0, 1, 2], 12.0, 1.0),
            ([0, 2, 1], 11.0, 2.0),
            ([2, 0, 1], 9.0, 3.0),
            ([2, 1, 0], 7.0, 4.0),
            ([1, 0, 2], 6.0, 5.0),
            ([1, 2, 0], 3.0, 6.0),
        ] {
            let got = of(targets);
            // 12 + 11 + 6 + 3 + 9 + 7 = 48 over 6 orders of 3 pairs.
            let expected =
                Targeting { mean: sum / 3.0, expected: 8.0 / 3.0, p: at_least / 6.0, exact: true };
            assert_eq!(got, expected, "{targets:?}");
        }
    }

    #[test]
    fn a_model_that_is_only_taken_over_is_not_targeted() {
        // Whichever class is poisoned, patched images go to class 0.
        let taken_over: Vec<_> = (0..10)
            .map(|target| {
                let flow = (0..10).map(|class| if class == 0 { 60.0 } else { -5.0 }).collect();
                Destinations { target, flow }
            })
            .collect();
        let got = targeting(&taken_over, 1).unwrap();
        assert_eq!((got.mean, got.expected, got.p), (1.5, 1.5, 1.0));
    }

    #[test]
    fn ten_pairs_that_all_hit_have_the_smallest_p() {
        let hits: Vec<_> = (0..10)
            .map(|target| {
                let flow = (0..10).map(|class| if class == target { 30.0 } else { 1.0 }).collect();
                Destinations { target, flow }
            })
            .collect();
        let got = targeting(&hits, 1).unwrap();
        assert_eq!((got.p, got.exact), (1.0 / 3_628_800.0, true));
        // Two pairs with the same target can be swapped.
        let mut shared = hits.clone();
        shared[1] = shared[0].clone();
        assert_eq!(targeting(&shared, 1).unwrap().p, 2.0 / 3_628_800.0);
        // All pairs poison the same class: the test cannot tell.
        let one = vec![hits[0].clone(); 10];
        assert_eq!(targeting(&one, 1).unwrap().p, 1.0);
    }

    #[test]
    fn drawn_orders_agree_with_all_orders() {
        let flows: Vec<Vec<f64>> = (0..8)
            .map(|i| (0..8).map(|j| f64::from((i * 5 + j * 3 + i * j) % 13)).collect())
            .collect();
        let observed: f64 = (0..8).map(|i| flows[i][i]).sum();
        let all = exact(&flows, observed).p();
        assert!((0.05..0.95).contains(&all), "{all}");
        // Four standard deviations of a share of 20,000 draws.
        let room = 4.0 * (all * (1.0 - all) / DRAWN as f64).sqrt();
        for seed in 0..3 {
            let some = drawn(&flows, observed, seed).p();
            assert!((some - all).abs() < room, "{some} {all}");
        }
    }

    #[test]
    fn more_pairs_are_drawn_and_repeat() {
        let hits: Vec<_> = (0..12)
            .map(|i| {
                let flow = (0..12).map(|class| f64::from((i * 7 + class * class) % 12)).collect();
                Destinations { target: i as usize, flow }
            })
            .collect();
        let got = targeting(&hits, 1).unwrap();
        assert!(!got.exact && got.p > 0.0);
        assert_eq!(targeting(&hits, 1), Some(got));
        assert_ne!(targeting(&hits, 2).unwrap().p, got.p);
    }

    #[test]
    fn what_cannot_be_tested_is_none() {
        let of = |rows: &[(usize, &[f64])]| {
            let pairs: Vec<_> = rows
                .iter()
                .map(|(target, flow)| Destinations { target: *target, flow: flow.to_vec() })
                .collect();
            targeting(&pairs, 1)
        };
        assert!(of(&[(0, &[1.0, 0.0]), (1, &[0.0, 1.0])]).is_some());
        let none: [&[(usize, &[f64])]; 8] = [
            &[],
            &[(0, &[1.0, 0.0])],
            &[(0, &[1.0, 0.0]), (2, &[0.0, 1.0])],
            &[(0, &[1.0, 0.0]), (1, &[0.0, 1.0, 0.0])],
            &[(0, &[1.0, f64::NAN]), (1, &[0.0, 1.0])],
            &[(0, &[1.0, f64::INFINITY]), (1, &[0.0, 1.0])],
            &[(0, &[1e308, 1e308]), (1, &[1e308, 1e308])],
            &[(0, &[]), (0, &[])],
        ];
        for bad in none {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
