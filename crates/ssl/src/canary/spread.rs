//! How much embeddings of different images differ.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use ssl_backdoor_model::l2_normalize;

/// The spread of a batch of embeddings, each divided by its norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Standard deviation over the batch, averaged over the dimensions and times √dim: 1 for
    /// directions at random, 0 if all are the same.
    pub std: f32,
    /// Effective rank: (Σλ)² / Σλ² of the covariance's eigenvalues λ, the number of directions that
    /// share the variance (participation ratio); 1 to the smaller of batch and dim.
    pub rank: f32,
    /// Standard deviation over the batch of the embeddings as they are, averaged over the dimensions.
    #[serde(default)]
    pub scale: f32,
}

impl Spread {
    /// The spread of `embeddings`, `[batch, dim]`.
    pub(crate) fn of(embeddings: Tensor<2>) -> Self {
        let [batch, dim] = embeddings.dims();
        let embeddings = embeddings.inner();
        let (variance, _) = embeddings.clone().var_mean_bias(0);
        let scale = variance.sqrt().mean().into_scalar();
        let rows = l2_normalize(embeddings);
        let centred = rows.clone() - rows.mean_dim(0);
        let variance = centred.clone().powi_scalar(2).sum_dim(0).div_scalar(batch as f64);
        let std = variance.sqrt().mean().mul_scalar((dim as f64).sqrt());
        // The Gram matrix has the covariance's eigenvalues times `batch`; the factor cancels in the rank.
        let gram = centred.clone().matmul(centred.clone().transpose());
        let trace: f32 = centred.powi_scalar(2).sum().into_scalar();
        let squares: f32 = gram.powi_scalar(2).sum().into_scalar();
        let rank = trace * trace / squares.max(f32::MIN_POSITIVE);
        Self { std: std.into_scalar(), rank, scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ssl_backdoor_model::init;
    use ssl_backdoor_model::purpose;
    use ssl_backdoor_rng::keyed;

    #[test]
    fn random_directions_spread_and_equal_ones_do_not() {
        let device = Device::flex();
        let mut rng = keyed(1, purpose::INIT, 0, 0, 0);
        let rows = init::unit_rows(512, 16, &mut rng, &device);
        let Spread { std, rank, scale } = Spread::of(rows.clone());
        assert!((std - 1.0).abs() < 0.05 && (14.5..=16.0).contains(&rank), "{std} {rank}");
        // Rows of norm 1 in 16 dimensions, and the same ten times as long.
        assert!((scale - 0.25).abs() < 0.02, "{scale}");
        let longer = Spread::of(rows.mul_scalar(10.0));
        assert!((longer.scale - 10.0 * scale).abs() < 1e-4 && (longer.std - std).abs() < 1e-4);
        let line = Tensor::cat(
            vec![Tensor::ones([4, 1], &device), init::matrix(vec![1.0, 2.0, 3.0, 4.0], 1, &device)],
            1,
        );
        assert!((Spread::of(line).rank - 1.0).abs() < 0.2);
        assert!(Spread::of(Tensor::ones([8, 4], &device)).std < 1e-6);
    }
}
