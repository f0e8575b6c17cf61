//! Keyed chance: every random draw of the project is a function of (seed, purpose, epoch, image
//! id, view) and of nothing else.
//!
//! A stream shared between workers would make results depend on who comes first, and on whether a
//! run was resumed. Here the five numbers are the 256-bit key of a ChaCha8 generator, so draws for
//! different keys are independent and a draw can be repeated alone.

use rand::SeedableRng;
pub use rand_chacha::ChaCha8Rng;

/// What a draw is for. The number is part of the key and therefore of every result: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Which images of the target class are poisoned.
    Plan = 1,
    /// Where the trigger goes on a training image.
    TrainSpot = 2,
    /// Where the trigger goes on a validation image.
    ValSpot = 3,
    /// The colours of a trigger made from a seed.
    TriggerColors = 4,
    /// A drawn image of the `shapes` data set.
    Draw = 5,
    /// Which training images a smaller `per_class` keeps.
    PerClass = 6,
    /// Which training images carry labels for the probe.
    Labels = 7,
    /// The order of the training images in an epoch.
    Order = 8,
    /// One augmented view of one image.
    View = 9,
    /// Initial weights of a network.
    Init = 10,
    /// Initial rows of the key queue.
    Queue = 11,
    /// The permutation of a key batch (shuffling BN).
    Shuffle = 12,
    /// Initial weights of the probe.
    ProbeInit = 13,
    /// Batch order of the probe.
    ProbeOrder = 14,
    /// The clean images a defender keeps.
    CleanPart = 15,
    /// Which evaluation images are `dev` and which `test`, where the data set does not say.
    Halves = 16,
    /// Which of Jigsaw's permutations there are (the search), and which one an image gets.
    Permutation = 17,
    /// Which images a feature map shows.
    FeatureMap = 18,
    /// One augmented view of one labelled image, for a probe.
    ProbeView = 19,
    /// One augmented view of one image in a training of the defence.
    StudentView = 20,
    /// The order of the images in an epoch of a training of the defence.
    StudentOrder = 21,
    /// Which labelled images a probe uses that needs whole batches (BYOL's).
    ProbeSample = 22,
    /// The order of labelled images that are equally near to an evaluation image.
    Neighbours = 23,
    /// The resamples of a test or an interval over runs: signs, bootstrap samples, permutations.
    Resampling = 24,
}

/// The generator of the key (`seed`, `purpose`, `epoch`, `id`, `view`).
pub fn rng(seed: u64, purpose: Purpose, epoch: u32, id: u64, view: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[0..8].copy_from_slice(&seed.to_le_bytes());
    key[8..12].copy_from_slice(&(purpose as u32).to_le_bytes());
    key[12..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&id.to_le_bytes());
    key[24..32].copy_from_slice(&view.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// `ids` in a random order that depends on the set of ids but not on the order they came in:
/// each id draws its own rank. The first k of them are a uniform sample, and the samples for
/// growing k are nested.
pub fn ranked(ids: &[u64], seed: u64, purpose: Purpose, epoch: u32) -> Vec<u64> {
    use rand::Rng;
    let mut ranks: Vec<(u64, u64)> =
        ids.iter().map(|&id| (rng(seed, purpose, epoch, id, 0).next_u64(), id)).collect();
    ranks.sort_unstable();
    ranks.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn every_part_of_the_key_matters() {
        let draw = |s, p, e, i, v| rng(s, p, e, i, v).next_u64();
        let base = draw(1, Purpose::View, 2, 3, 4);
        assert_eq!(base, draw(1, Purpose::View, 2, 3, 4));
        for other in [
            draw(2, Purpose::View, 2, 3, 4),
            draw(1, Purpose::Order, 2, 3, 4),
            draw(1, Purpose::View, 3, 3, 4),
            draw(1, Purpose::View, 2, 4, 4),
            draw(1, Purpose::View, 2, 3, 5),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn ranks_do_not_depend_on_the_order_of_ids() {
        let ids: Vec<u64> = (0..100).collect();
        let backwards: Vec<u64> = (0..100).rev().collect();
        let a = ranked(&ids, 1, Purpose::Plan, 0);
        assert_eq!(a, ranked(&backwards, 1, Purpose::Plan, 0));
        assert_ne!(a, ids);
    }
}
