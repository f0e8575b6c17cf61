//! The two halves of the evaluation images: `dev`, on which settings may be chosen, and `test`.

use std::collections::HashSet;

use ssl_backdoor_rng::ranked;

use crate::DataError;
use crate::config::Eval;
use crate::purpose;

/// How the images are ordered before they are halved.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// Each class is halved, in a seeded order of its images: for files, which are sorted by class. The halves do not
    /// depend on the order of the files.
    Ranked {
        /// Number of classes.
        classes: u32,
        /// Seed of the order.
        seed: u64,
    },
    /// The order of the files: for the published small sets, whose files are shuffled.
    Stored,
}

/// Positions of the `dev` and the `test` half of images with these (id, class), both ascending. With an odd number of
/// images, `dev` gets the larger half, in both orders.
pub(crate) fn halves(labels: &[(u64, u32)], order: Order) -> [Vec<usize>; 2] {
    let half = |count: usize| count.div_ceil(2);
    let mut dev = HashSet::new();
    match order {
        Order::Ranked { classes, seed } => {
            for class in 0..classes {
                let of = labels.iter().filter(|(_, c)| *c == class).map(|(id, _)| *id);
                let ids: Vec<u64> = of.collect();
                let ranked = ranked(&ids, seed, purpose::HALVES, 0);
                dev.extend(ranked.into_iter().take(half(ids.len())));
            }
        }
        Order::Stored => dev.extend(labels.iter().take(half(labels.len())).map(|(id, _)| *id)),
    }
    let in_dev = |i: &usize| dev.contains(&labels[*i].0);
    (0..labels.len()).partition::<Vec<usize>, _>(in_dev).into()
}

/// Checks that `part` has at least one image; `eval` are its images, `dev` those of the dev half.
///
/// # Errors
/// [`DataError::NoImages`] with the images per class and what to do.
pub(crate) fn check_part(
    part: Eval,
    eval: &[(u64, u32)],
    dev: &[(u64, u32)],
    classes: usize,
) -> Result<(), DataError> {
    if !eval.is_empty() {
        return Ok(());
    }
    // If the test half is empty, the dev half holds every evaluation image.
    let count = dev.len();
    let each = count as f64 / classes.max(1) as f64;
    let (value, advice) = match part {
        Eval::Test => ("test", "Set `eval` to \"all\" or \"dev\", or add evaluation images."),
        Eval::Dev => ("dev", "Add evaluation images."),
        Eval::All => ("all", "Add evaluation images."),
    };
    let reason = format!(
        "no image belongs to this half. The set has {count} evaluation images in {classes} classes, {each:.1} per \
         class; with an odd number the dev half has one image more than the test half. {advice}"
    );
    Err(DataError::NoImages { field: "eval", value: value.into(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn review_2_01_both_orders_round_the_same_way() {
        for count in 1..9_u64 {
            let labels: Vec<(u64, u32)> = (0..count).map(|id| (100 + 7 * id, 0)).collect();
            for order in [Order::Stored, Order::Ranked { classes: 1, seed: 3 }] {
                let [dev, test] = halves(&labels, order);
                assert_eq!(dev.len(), (count as usize).div_ceil(2), "{count} {order:?}");
                let mut all: Vec<usize> = dev.iter().chain(&test).copied().collect();
                all.sort_unstable();
                assert_eq!(all, (0..count as usize).collect::<Vec<_>>());
            }
        }
        let labels: Vec<(u64, u32)> = (0..5).map(|id| (id, 0)).collect();
        assert_eq!(halves(&labels, Order::Stored), [vec![0, 1, 2], vec![3, 4]]);
    }

    #[test]
    fn ranked_halves_take_half_of_each_class_whatever_the_order_of_the_images() {
        let labels: Vec<(u64, u32)> = (0..30).map(|id| (id, u32::from(id >= 20))).collect();
        let order = Order::Ranked { classes: 2, seed: 1 };
        let ids = |labels: &[(u64, u32)]| {
            halves(labels, order).map(|half| {
                half.into_iter().map(|i| labels[i]).collect::<std::collections::BTreeSet<_>>()
            })
        };
        let [dev, test] = ids(&labels);
        assert_eq!(dev.iter().filter(|(_, class)| *class == 1).count(), 5);
        assert_eq!((dev.len(), test.len()), (15, 15));
        let turned: Vec<_> = labels.iter().rev().copied().collect();
        assert_eq!(ids(&turned), [dev, test]);
    }

    #[test]
    fn review_2_01_an_empty_part_names_the_key_the_count_and_what_to_do() {
        let all = [(1, 0), (2, 1), (3, 2)];
        let error = check_part(Eval::Test, &[], &all, 3).unwrap_err().to_string();
        for words in ["eval = \"test\"", "3 classes, 1.0 per class", "Set `eval` to"] {
            assert!(error.contains(words), "{error}");
        }
        assert!(check_part(Eval::Test, &all[..1], &all, 3).is_ok());
    }
}
