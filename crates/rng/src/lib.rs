#![doc = include_str!("../README.md")]

use rand::{Rng, SeedableRng};
pub use rand_chacha::ChaCha8Rng;

/// What a draw is for. The number is part of the key and therefore of every result: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Purpose(u32);

impl Purpose {
    /// The purpose with this number. Crates outside ssl-backdoor use numbers from 1,000 up.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The generator for the key (`seed`, `purpose`, `epoch`, `id`, `view`).
pub fn keyed(seed: u64, purpose: Purpose, epoch: u32, id: u64, view: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[0..8].copy_from_slice(&seed.to_le_bytes());
    key[8..12].copy_from_slice(&purpose.0.to_le_bytes());
    key[12..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&id.to_le_bytes());
    key[24..32].copy_from_slice(&view.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// `ids` in a random order that depends on the set of ids but not on their order: each id draws its own rank. The
/// first k of them are a uniform sample, and the samples for growing k are nested.
pub fn ranked(ids: &[u64], seed: u64, purpose: Purpose, epoch: u32) -> Vec<u64> {
    let mut ranks: Vec<(u64, u64)> =
        ids.iter().map(|&id| (keyed(seed, purpose, epoch, id, 0).next_u64(), id)).collect();
    ranks.sort_unstable();
    ranks.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIEW: Purpose = Purpose::new(9);
    const ORDER: Purpose = Purpose::new(8);

    #[test]
    fn every_part_of_the_key_matters() {
        let draw = |s, p, e, i, v| keyed(s, p, e, i, v).next_u64();
        let base = draw(1, VIEW, 2, 3, 4);
        assert_eq!(base, draw(1, VIEW, 2, 3, 4));
        for other in [
            draw(2, VIEW, 2, 3, 4),
            draw(1, ORDER, 2, 3, 4),
            draw(1, VIEW, 3, 3, 4),
            draw(1, VIEW, 2, 4, 4),
            draw(1, VIEW, 2, 3, 5),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn ranks_do_not_depend_on_the_order_of_ids() {
        let ids: Vec<u64> = (0..100).collect();
        let backwards: Vec<u64> = (0..100).rev().collect();
        let a = ranked(&ids, 1, ORDER, 0);
        assert_eq!(a, ranked(&backwards, 1, ORDER, 0));
        assert_ne!(a, ids);
    }
}
