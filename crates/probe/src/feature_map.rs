//! Features in two dimensions, as in the paper's figures, and a number that summarises them.

use bhtsne::{Neighbor, tSNE};
use burn::tensor::Device;
use ssl_backdoor_model::{init, l2_normalize};

use crate::{Features, ProbeError, Vote, knn};

/// Perplexity and learning rate of the reference's figures for MoCo (docs/protocol.md, 4).
const PERPLEXITY: f32 = 30.0;
const LEARNING_RATE: f32 = 200.0;
/// Accuracy of the Barnes-Hut approximation; 0.5 is usual.
const THETA: f32 = 0.5;
/// Standard deviation of the first axis at the start, as in scikit-learn.
const START: f32 = 1e-4;
/// Rounds of power iteration; the axes need not be exact.
const ROUNDS: usize = 100;

/// t-SNE of L2-normalised features: one point `[x, y]` each. It starts from the first two principal axes and draws no
/// random numbers, so the same features give the same map. Fewer than four points stay where they start, and so do
/// identical points, such as those of a collapsed encoder.
///
/// # Errors
/// [`ProbeError::Thread`] if its single thread cannot be started; [`ProbeError::Empty`],
/// [`ProbeError::Count`] or [`ProbeError::NotFinite`] for features that are absent, of the wrong length, or not finite.
pub fn feature_map(features: &Features, device: &Device) -> Result<Vec<[f32; 2]>, ProbeError> {
    features.check("images to draw", features.dim)?;
    let n = features.labels.len();
    let rows = normed(features, device);
    let start = principal_axes(&rows, features.dim);
    if n < 4 || start.iter().flatten().all(|v| *v == 0.0) {
        return Ok(start);
    }
    let points: Vec<&[f32]> = rows.chunks_exact(features.dim).collect();
    let perplexity = PERPLEXITY.min((n - 1) as f32 / 3.0);
    let count = ((3.0 * perplexity) as usize).min(n - 1);
    let neighbors: Vec<Vec<Neighbor<f32>>> = (0..n).map(|i| nearest(&points, i, count)).collect();
    let fit = || {
        let mut tsne: tSNE<'_, f32, &[f32]> = tSNE::new(&points);
        tsne.perplexity(perplexity)
            .learning_rate(LEARNING_RATE)
            .initial_embedding(start.concat())
            .barnes_hut_with_neighbors(THETA, &neighbors);
        tsne.embedding()
    };
    // With several threads the order of the sums would vary.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    Ok(pool.install(fit).chunks_exact(2).map(|p| [p[0], p[1]]).collect())
}

/// Share of the `patched` images of other classes that a majority vote of their `k` nearest `clean` images assigns to
/// `target`: the triangles that gather there in the map. None where it is undefined: without patched images of other
/// classes, or without more than `k` clean images.
///
/// # Errors
/// As [`knn`], except for too few images.
pub fn target_neighbour_share(
    clean: &Features,
    patched: &Features,
    classes: usize,
    target: u32,
    k: usize,
    device: &Device,
) -> Result<Option<f64>, ProbeError> {
    let others: Vec<usize> =
        (0..patched.labels.len()).filter(|&i| patched.labels[i] != target).collect();
    if others.is_empty() || clean.labels.len() <= k {
        return Ok(None);
    }
    let others = patched.rows(&others)?;
    let found = knn(clean, &others, classes, &[k], Vote::Majority, device)?.concat();
    let hits = found.iter().filter(|class| **class == target).count();
    Ok(Some(hits as f64 / found.len() as f64))
}

fn normed(features: &Features, device: &Device) -> Vec<f32> {
    let rows = init::matrix(features.values.clone(), features.dim, device);
    l2_normalize(rows).into_data().iter::<f32>().collect()
}

/// The `count` points nearest to point `i`, sorted by distance and then by index.
fn nearest(points: &[&[f32]], i: usize, count: usize) -> Vec<Neighbor<f32>> {
    let distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
    let mut all: Vec<Neighbor<f32>> = (0..points.len())
        .filter(|&j| j != i)
        .map(|index| Neighbor { index, distance: distance(points[i], points[index]) })
        .collect();
    all.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.index.cmp(&b.index)));
    all.truncate(count);
    all
}

/// The coordinates of the points on their first two principal axes, scaled to [`START`].
fn principal_axes(rows: &[f32], dim: usize) -> Vec<[f32; 2]> {
    let n = (rows.len() / dim).max(1);
    let mut mean = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n as f32);
    }
    let mut centred: Vec<Vec<f32>> = rows
        .chunks_exact(dim)
        .map(|row| row.iter().zip(&mean).map(|(v, m)| v - m).collect())
        .collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut axes = Vec::new();
    for _ in 0..2 {
        // Any start that is not orthogonal to the axis will do.
        let mut axis: Vec<f32> = (0..dim).map(|i| 1.0 + (i % 7) as f32).collect();
        for _ in 0..ROUNDS {
            let mut next = vec![0.0; dim];
            for row in &centred {
                let along = dot(row, &axis);
                next.iter_mut().zip(row).for_each(|(n, v)| *n += along * v);
            }
            let norm = dot(&next, &next).sqrt().max(f32::MIN_POSITIVE);
            axis = next.into_iter().map(|v| v / norm).collect();
        }
        let along: Vec<f32> = centred.iter().map(|row| dot(row, &axis)).collect();
        for (row, along) in centred.iter_mut().zip(&along) {
            row.iter_mut().zip(&axis).for_each(|(v, a)| *v -= along * a);
        }
        axes.push(along);
    }
    let spread = (dot(&axes[0], &axes[0]) / n as f32).sqrt();
    let scale = if spread > 0.0 { START / spread } else { 0.0 };
    (0..rows.len() / dim).map(|i| [axes[0][i] * scale, axes[1][i] * scale]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use ssl_backdoor_data::purpose;
    use ssl_backdoor_rng::keyed;

    /// Three clouds of points, one per class.
    fn clouds(per_class: usize) -> Features {
        let mut rng = keyed(4, purpose::DRAW, 0, 0, 0);
        let mut features = Features { values: Vec::new(), dim: 5, labels: Vec::new() };
        for i in 0..3 * per_class {
            for axis in 0..5 {
                let center = if axis == i % 3 { 1.0 } else { 0.0 };
                features.values.push(center + rng.random_range(-0.3f32..0.3));
            }
            features.labels.push((i % 3) as u32);
        }
        features
    }

    #[test]
    fn clouds_stay_apart_and_the_map_is_the_same_each_time() {
        let (features, device) = (clouds(30), Device::flex());
        let map = feature_map(&features, &device).unwrap();
        let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(map, three.install(|| feature_map(&features, &device)).unwrap());
        let distance = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        for (i, point) in map.iter().enumerate() {
            let others = (0..map.len()).filter(|&j| j != i);
            let near = others
                .min_by(|&a, &b| distance(*point, map[a]).total_cmp(&distance(*point, map[b])));
            assert_eq!(features.labels[near.unwrap()], features.labels[i], "point {i}");
        }
        assert_eq!(feature_map(&features.rows(&[0, 1]).unwrap(), &device).unwrap().len(), 2);
    }

    #[test]
    fn review_2_06_any_number_of_points_has_a_map_and_none_is_an_error() {
        let (features, device) = (clouds(4), Device::flex());
        for n in 1..=12 {
            let some: Vec<usize> = (0..n).collect();
            let map = feature_map(&features.rows(&some).unwrap(), &device).unwrap();
            assert_eq!(map.len(), n);
            assert!(map.iter().flatten().all(|v| v.is_finite()), "{n} points: {map:?}");
        }
        // Identical points, as from a collapsed encoder.
        let same = Features { values: vec![0.0; 30], dim: 3, labels: vec![0; 10] };
        assert_eq!(feature_map(&same, &device).unwrap(), [[0.0; 2]; 10]);
        let message = |features: &Features| feature_map(features, &device).unwrap_err().to_string();
        assert!(message(&features.rows(&[]).unwrap()).contains("no images"));
        message(&Features { values: Vec::new(), dim: 0, labels: vec![1] });
        let broken = Features { values: vec![f32::NAN; 30], dim: 3, labels: vec![0; 10] };
        assert!(message(&broken).contains("is NaN"));
    }

    #[test]
    fn the_axes_are_those_of_largest_variance() {
        // Points on a line along (3, 4), with small offsets along (-4, 3).
        let rows: Vec<f32> = (-5..=5)
            .flat_map(|i| {
                let (t, e) = (i as f32, if i % 2 == 0 { 0.1 } else { -0.1 });
                [3.0 * t - 4.0 * e, 4.0 * t + 3.0 * e]
            })
            .collect();
        let start = principal_axes(&rows, 2);
        let spread = |axis: usize| {
            let mean = start.iter().map(|p| p[axis]).sum::<f32>() / 11.0;
            (start.iter().map(|p| (p[axis] - mean).powi(2)).sum::<f32>() / 11.0).sqrt()
        };
        assert!((spread(0) - START).abs() < 1e-3 * START, "{}", spread(0));
        // 5·0.1 against 5·√10.
        assert!((spread(1) / spread(0) - 0.0315).abs() < 0.001, "{}", spread(1) / spread(0));
    }

    #[test]
    fn gathering_counts_images_of_other_classes_near_the_target() {
        let clean = clouds(20);
        // All patched images look like class 2.
        let twos: Vec<usize> = (0..60).filter(|&i| clean.labels[i] == 2).collect();
        let mut patched = clean.rows(&twos).unwrap();
        patched.labels = (0..20).map(|i| i % 3).collect();
        let device = Device::flex();
        let share = |clean: &Features, patched: &Features, target, k| {
            target_neighbour_share(clean, patched, 3, target, k, &device).unwrap()
        };
        assert_eq!(share(&clean, &patched, 2, 5), Some(1.0));
        assert_eq!(share(&clean, &patched, 0, 5), Some(0.0));
        // Undefined for as many neighbours as clean images, or without images of other classes.
        assert_eq!(share(&clean, &patched, 2, 60), None);
        assert_eq!(share(&clean, &clean.rows(&twos).unwrap(), 2, 5), None);
    }
}
