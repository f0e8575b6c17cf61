//! Separable Gaussian blur.

use pulp::Arch;

/// Blurs a planar image `[3, height, width]` by a Gaussian of `sigma` pixels, borders mirrored
/// without repeating the edge (torchvision's padding), cut off at three sigma.
///
/// `scratch` is grown as needed and reused between calls.
pub fn gaussian_blur(
    image: &mut [f32],
    width: usize,
    height: usize,
    sigma: f32,
    scratch: &mut Vec<f32>,
) {
    let radius = (3.0 * sigma).ceil() as usize;
    gaussian_blur_within(image, [width, height], sigma, radius, scratch);
}

/// The same with a kernel of `2 · radius + 1` pixels a side, regardless of `sigma` (torchvision's `kernel_size`).
pub fn gaussian_blur_within(
    image: &mut [f32],
    [width, height]: [usize; 2],
    sigma: f32,
    radius: usize,
    scratch: &mut Vec<f32>,
) {
    let mut kernel: Vec<f32> = (0..=2 * radius)
        .map(|i| (-0.5 * ((i as f32 - radius as f32) / sigma).powi(2)).exp())
        .collect();
    let total: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= total);

    // The plane between the two passes, and one row with mirrored borders.
    let padded = width + 2 * radius;
    scratch.resize(width * height + padded, 0.0);
    let (between, row) = scratch.split_at_mut(width * height);
    Arch::new().dispatch(|| {
        for plane in image.chunks_exact_mut(width * height) {
            for (from, to) in plane.chunks_exact(width).zip(between.chunks_exact_mut(width)) {
                row[radius..radius + width].copy_from_slice(from);
                for x in (0..radius).chain(radius + width..padded) {
                    row[x] = from[mirror(x, radius, width)];
                }
                add_weighted(&kernel, |k| &row[k..k + width], to);
            }
            for (y, to) in plane.chunks_exact_mut(width).enumerate() {
                let source = |k| &between[mirror(y + k, radius, height) * width..][..width];
                add_weighted(&kernel, source, to);
            }
        }
    });
}

/// Sets `to` to the sum of `row(k)` times `kernel[k]`, in the order of k.
#[inline(always)]
fn add_weighted<'a>(kernel: &[f32], row: impl Fn(usize) -> &'a [f32], to: &mut [f32]) {
    to.fill(0.0);
    for (k, weight) in kernel.iter().enumerate() {
        to.iter_mut().zip(row(k)).for_each(|(v, s)| *v += weight * s);
    }
}

/// Position `at − radius`, mirrored into 0 to n − 1.
#[inline(always)]
fn mirror(at: usize, radius: usize, n: usize) -> usize {
    if (radius..radius + n).contains(&at) {
        return at - radius;
    }
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as i64 - 1);
    let folded = (at as i64 - radius as i64).rem_euclid(period);
    folded.min(period - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impulse_becomes_the_gaussian_and_the_sum_stays() {
        let (n, sigma) = (21, 1.3f32);
        let mut image = vec![0.0; 3 * n * n];
        image[10 * n + 10] = 1.0;
        gaussian_blur(&mut image, n, n, sigma, &mut Vec::new());
        let plane = &image[..n * n];
        assert!((plane.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let ratio = plane[10 * n + 12] / plane[10 * n + 10];
        assert!((ratio - (-0.5 * (2.0 / sigma).powi(2)).exp()).abs() < 1e-5);
        assert!(image[n * n..].iter().all(|&v| v == 0.0));
    }

    #[test]
    fn mirrors_without_repeating_the_edge() {
        let seen: Vec<usize> = (0..9).map(|at| mirror(at, 3, 3)).collect();
        assert_eq!(seen, [1, 2, 1, 0, 1, 2, 1, 0, 1]);
        assert_eq!(mirror(5, 2, 1), 0);
        assert_eq!((mirror(0, 2, 1), mirror(2, 2, 1)), (0, 0));
    }
}
