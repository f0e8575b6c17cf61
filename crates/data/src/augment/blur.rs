//! Separable Gaussian blur.

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
    let mut kernel: Vec<f32> = (0..=2 * radius)
        .map(|i| (-0.5 * ((i as f32 - radius as f32) / sigma).powi(2)).exp())
        .collect();
    let total: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= total);

    scratch.resize(width * height, 0.0);
    for plane in image.chunks_exact_mut(width * height) {
        for (row, out) in plane.chunks_exact(width).zip(scratch.chunks_exact_mut(width)) {
            for (x, v) in out.iter_mut().enumerate() {
                *v = (0..kernel.len()).map(|k| kernel[k] * row[mirror(x + k, radius, width)]).sum();
            }
        }
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            row.fill(0.0);
            for (k, weight) in kernel.iter().enumerate() {
                let from = mirror(y + k, radius, height) * width;
                let source = &scratch[from..from + width];
                row.iter_mut().zip(source).for_each(|(v, s)| *v += weight * s);
            }
        }
    }
}

/// Position `at − radius`, mirrored into 0 to n − 1.
fn mirror(at: usize, radius: usize, n: usize) -> usize {
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
    }
}
