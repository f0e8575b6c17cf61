//! Codes by the Sinkhorn-Knopp algorithm (Cuturi, NeurIPS 2013; as SwAV uses it, arXiv 2006.09882, section 3.1).

use burn::tensor::Tensor;

/// Soft assignments of rows to prototypes that use all prototypes equally: `iterations` times, `exp(scores /
/// epsilon)` gets totals of `1 / prototypes` by prototype, then of `1 / rows` by row. In the end, rows sum to 1.
///
/// # Shapes
/// - `scores`: `[rows, prototypes]`
/// - output: `[rows, prototypes]`, without gradient
pub fn sinkhorn(scores: Tensor<2>, epsilon: f64, iterations: usize) -> Tensor<2> {
    let scores = scores.detach();
    let [rows, prototypes] = scores.dims();
    // Subtracts the largest score before the exponential, against overflow: the common factor cancels.
    let largest = scores.clone().max();
    let exponents = scores.sub(largest.unsqueeze()).div_scalar(epsilon).exp();
    let total = exponents.clone().sum();
    let mut codes = exponents / total.unsqueeze();
    for _ in 0..iterations {
        let of_prototype = codes.clone().sum_dim(0).mul_scalar(prototypes as f64);
        // A prototype so far from all rows that its total underflows to zero stays at zero.
        codes = codes / of_prototype.clamp_min(f32::MIN_POSITIVE);
        let of_row = codes.clone().sum_dim(1).mul_scalar(rows as f64);
        codes = codes / of_row.clamp_min(f32::MIN_POSITIVE);
    }
    codes.mul_scalar(rows as f64)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ssl_backdoor_model::init::matrix;
    use ssl_backdoor_model::purpose;
    use ssl_backdoor_rng::keyed;

    use super::*;

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// In NumPy: `q = exp(s / .5).T; q /= q.sum(); 3 times { q /= q.sum(1, keepdims=True) * 2; q /= q.sum(0) * 3 };
    /// (q * 3).T` for s = [[.9, .1], [.8, .3], [-.2, .4]].
    #[test]
    fn codes_are_those_of_numpy() {
        let scores = matrix(vec![0.9, 0.1, 0.8, 0.3, -0.2, 0.4], 2, &Device::flex());
        let found = values(sinkhorn(scores, 0.5, 3));
        let wanted = [0.737930, 0.262070, 0.607123, 0.392877, 0.146195, 0.853805];
        for (a, b) in found.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-5, "{found:?}");
        }
    }

    #[test]
    fn rows_sum_to_one_and_prototypes_are_used_equally_whatever_the_scores() {
        let device = Device::flex();
        let mut rng = keyed(1, purpose::INIT, 0, 0, 0);
        // All rows prefer the first prototype.
        let bias = matrix([vec![0.6], vec![0.0; 4]].concat(), 5, &device);
        let rows = ssl_backdoor_model::init::unit_rows(40, 5, &mut rng, &device) + bias;
        let codes = sinkhorn(rows, 0.05, 60);
        let sums = values(codes.clone().sum_dim(1));
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{sums:?}");
        let used = values(codes.sum_dim(0));
        assert!(used.iter().all(|used| (used - 8.0).abs() < 0.4), "{used:?}");
    }

    #[test]
    fn a_small_epsilon_does_not_overflow() {
        let scores = matrix(vec![1.0, -1.0, 0.99, -1.0], 2, &Device::flex());
        let codes = values(sinkhorn(scores, 0.005, 3));
        assert!(codes.iter().all(|v| v.is_finite()), "{codes:?}");
        assert!((codes[0] + codes[1] - 1.0).abs() < 1e-5);
    }
}
