//! Jigsaw's known orders: permutations of nine that lie far from each other (Noroozi & Favaro, 2016;
//! docs/protocol.md, 2.4).

use std::collections::HashSet;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

/// Tiles of a puzzle.
pub(crate) const TILES: usize = 9;

/// Where each tile goes.
pub(crate) type Permutation = [u8; TILES];

/// `count` different permutations: the first at random, then always one with the largest mean Hamming
/// distance to those before it, ties broken at random.
///
/// If n\[j\]\[v\] of the m permutations so far have value v at place j, the distances of p to them sum up to 9m − Σ
/// n\[j\]\[p\[j\]\]: the search minimises the Σ.
pub(crate) fn permutations(count: usize, rng: &mut impl Rng) -> Vec<Permutation> {
    let mut first: Permutation = std::array::from_fn(|i| i as u8);
    first.shuffle(rng);
    let mut search = Search { uses: [[0; TILES]; TILES], chosen: HashSet::new() };
    let mut found = vec![first];
    search.choose(first);
    while found.len() < count {
        let next = search.best(rng);
        search.choose(next);
        found.push(next);
    }
    found
}

struct Search {
    /// n\[place\]\[value\].
    uses: [[u32; TILES]; TILES],
    chosen: HashSet<Permutation>,
}

/// The best permutation found so far: one of `ties`, which share `sum`.
struct Best {
    sum: u32,
    ties: u32,
    permutation: Permutation,
}

impl Search {
    fn choose(&mut self, permutation: Permutation) {
        for (place, &value) in permutation.iter().enumerate() {
            self.uses[place][value as usize] += 1;
        }
        self.chosen.insert(permutation);
    }

    fn best(&self, rng: &mut impl Rng) -> Permutation {
        // The least that each place and those after it can add: branches that cannot win are cut.
        let mut least = [0; TILES + 1];
        for place in (0..TILES).rev() {
            let cheapest = self.uses[place].iter().min().copied().unwrap_or_default();
            least[place] = least[place + 1] + cheapest;
        }
        let best = Best { sum: u32::MAX, ties: 0, permutation: [0; TILES] };
        let mut descent = Descent { search: self, least, prefix: [0; TILES], best, rng };
        descent.extend(0, 0, 0);
        descent.best.permutation
    }
}

/// The depth-first search for the best permutations, place by place.
struct Descent<'a, R> {
    search: &'a Search,
    /// The least that each place and those after it can add to a sum.
    least: [u32; TILES + 1],
    /// The places filled so far.
    prefix: Permutation,
    best: Best,
    rng: &'a mut R,
}

impl<R: Rng> Descent<'_, R> {
    /// Tries every value that is not `taken` at `place`; the places before it sum up to `sum`.
    fn extend(&mut self, place: usize, taken: u16, sum: u32) {
        if sum + self.least[place] > self.best.sum {
            return;
        }
        if place == TILES {
            self.end(sum);
            return;
        }
        for value in 0..TILES as u8 {
            if taken & (1 << value) == 0 {
                self.prefix[place] = value;
                let sum = sum + self.search.uses[place][value as usize];
                self.extend(place + 1, taken | (1 << value), sum);
            }
        }
    }

    /// Records a complete permutation that is no worse than the best so far.
    fn end(&mut self, sum: u32) {
        if self.search.chosen.contains(&self.prefix) {
            return;
        }
        let best = &mut self.best;
        best.ties = if sum < best.sum { 1 } else { best.ties + 1 };
        best.sum = sum;
        // Each of the ties is kept with the same probability.
        if self.rng.random_range(0..best.ties) == 0 {
            best.permutation = self.prefix;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purpose;
    use ssl_backdoor_rng::keyed;

    fn rng(seed: u64) -> impl Rng {
        keyed(seed, purpose::PERMUTATION, 0, 0, 0)
    }

    /// The reference's file has the same properties: the first nine are mutually at distance 9, every
    /// value is used as often as any other, the mean distance is 8.004 for 2,000 of them (random ones:
    /// 8.000).
    #[test]
    fn they_are_different_evenly_used_and_far_apart() {
        let found = permutations(200, &mut rng(1));
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), 200);
        let distance =
            |a: &Permutation, b: &Permutation| a.iter().zip(b).filter(|(a, b)| a != b).count();
        for (i, a) in found[..9].iter().enumerate() {
            assert!(found[..i].iter().all(|b| distance(a, b) == 9));
        }
        for place in 0..TILES {
            let mut uses = [0; TILES];
            found.iter().for_each(|p| uses[p[place] as usize] += 1);
            assert!(uses.iter().all(|&n| (22..=23).contains(&n)), "{uses:?}");
        }
        let pairs =
            found.iter().enumerate().flat_map(|(i, a)| found[..i].iter().map(move |b| (a, b)));
        let total: usize = pairs.map(|(a, b)| distance(a, b)).sum();
        let mean = total as f64 / (200.0 * 199.0 / 2.0);
        assert!(mean > 8.03, "{mean}");
        assert_eq!(found, permutations(200, &mut rng(1)));
        assert_ne!(found, permutations(200, &mut rng(2)));
    }
}
