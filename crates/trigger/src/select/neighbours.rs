//! Selection by anchor and neighbours. Let s₁ ≥ s₂ ≥ … be the cosine similarities of an image to all images,
//! including itself. The anchor is the image with the largest score, and its n nearest images are chosen.
//!
//! | rule | score |
//! | --- | --- |
//! | `con` | (s₁ + … + sₙ) − (sₙ₊₁ + … + s₂ₙ) |
//! | `conp` | s₁ + … + sₙ |
//! | `conn` | −(sₙ₊₁ + … + s₂ₙ) |
//!
//! Every pair of images is compared: N² · dim products. A thread keeps only one row of similarities at a time.

use std::cmp::Ordering;

use rayon::prelude::*;

/// Weights of the similarities to the n nearest images and to the next n in the score of an anchor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub near: f64,
    pub next: f64,
}

/// The inner product of two rows. It keeps eight sums, so that the compiler uses vectors; their order is fixed.
fn inner(a: &[f32], b: &[f32]) -> f32 {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0f32; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// The positions of the `count` images nearest to the anchor, nearest first. `values` is `[images, dim]` with rows of
/// length 1. There are at least `count` images, and at least `2 * count` if the next ones have a weight.
pub(super) fn nearest(values: &[f32], dim: usize, count: usize, weights: Weights) -> Vec<usize> {
    let similarities = |anchor: &[f32]| -> Vec<f32> {
        values.chunks_exact(dim).map(|row| inner(anchor, row)).collect()
    };
    let scores: Vec<f64> = values
        .par_chunks_exact(dim)
        .map(|anchor| score(&mut similarities(anchor), count, weights))
        .collect();
    // The first one in case of a tie.
    let best = (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let Some(best) = best else { return Vec::new() };
    let found = similarities(&values[best * dim..(best + 1) * dim]);
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|&a, &b| descending(&found[a], &found[b]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

fn descending(a: &f32, b: &f32) -> Ordering {
    b.total_cmp(a)
}

/// The score of an image with these similarities, which it reorders.
fn score(similarities: &mut [f32], count: usize, weights: Weights) -> f64 {
    let wanted = similarities.len().min(2 * count);
    if wanted < similarities.len() {
        similarities.select_nth_unstable_by(wanted, descending);
    }
    let first = &mut similarities[..wanted];
    first.sort_unstable_by(descending);
    let sum = |part: &[f32]| part.iter().map(|s| f64::from(*s)).sum::<f64>();
    let (near, next) = first.split_at(count.min(wanted));
    weights.near * sum(near) + weights.next * sum(next)
}
