//! An estimate of the mutual information between two sets of features: MINE with the Donsker–Varadhan bound (Belghazi
//! et al., *Mutual Information Neural Estimation*, ICML 2018).

use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::seq::SliceRandom;
use ssl_backdoor_model::{Mlp, purpose as of_model};
use ssl_backdoor_rng::{ChaCha8Rng, keyed};
use ssl_backdoor_ssl::{OptimizerConfig, WeightDecayScope};

use crate::purpose;

/// Hidden width of the network that tells matching pairs from others.
const HIDDEN: usize = 128;
const LR: f64 = 1e-3;

/// Settings for training the network of an estimate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Estimate {
    pub seed: u64,
    /// Number of this estimate among several: each has its own draws.
    pub number: u64,
    /// Passes over the rows.
    pub epochs: usize,
    /// Rows in a step, at most all rows.
    pub batch: usize,
}

impl Estimate {
    /// Mutual information between the rows of `x` and `z` in nats, at least 0: the supremum over networks T of
    /// `E T(x, z) − ln E exp T(x, z')`, where z' belongs to another row, as approximated by a network of one hidden
    /// layer trained with Adam. It is a lower bound unless the network memorises rows; with few rows it is too large.
    /// Columns are standardised first, which does not change the information.
    ///
    /// # Shapes
    /// - `x`, `z`: `[rows, dim]`, without autodiff on their device
    pub fn nats(&self, x: Tensor<2>, z: Tensor<2>) -> f64 {
        let Self { seed, number, epochs, batch } = *self;
        let device = x.device().autodiff();
        let [x, z] = [x, z].map(|values| Tensor::from_inner(standardised(values)));
        let [rows, dim] = [x.dims()[0], x.dims()[1] + z.dims()[1]];
        let mut rng = keyed(seed, of_model::INIT, 0, 2 + number, 1);
        let mut critic = Mlp::new(&[dim, HIDDEN, 1], &mut rng, &device);
        let adam = OptimizerConfig::Adam { betas: [0.9, 0.999] };
        let mut optimizer = adam.build(0.0, WeightDecayScope::All, &critic);
        let pairs = |epoch: usize| {
            let mut rng = keyed(seed, purpose::INFORMATION, epoch as u32, number, 0);
            let order = shuffled(rows, &mut rng);
            // Each row is paired with the next one in the order: never with itself, if there are at least two.
            let others = order.iter().cycle().skip(1).take(rows).copied().collect::<Vec<_>>();
            [order, others]
        };
        for epoch in 0..epochs {
            let [order, others] = pairs(epoch);
            for (own, others) in order.chunks(batch.max(2)).zip(others.chunks(batch.max(2))) {
                let [own, others] = [own, others].map(|rows| indices(rows, &device));
                let part = x.clone().select(0, own.clone());
                let [own, others] = [own, others].map(|rows| z.clone().select(0, rows));
                let loss = bound(&critic, part, own, others).neg();
                let grads = GradientsParams::from_grads(loss.backward(), &critic);
                critic = optimizer.step(LR, critic, grads);
            }
        }
        let [order, others] = pairs(epochs).map(|rows| indices(&rows, &device));
        let (x, own) = (x.select(0, order.clone()), z.clone().select(0, order));
        let found: f32 = bound(&critic, x, own, z.select(0, others)).into_scalar();
        // A bound that is not finite counts as 0.
        if found.is_finite() { f64::from(found.max(0.0)) } else { 0.0 }
    }
}

/// `mean T(x, own) − ln mean exp T(x, others)`, `[1]`.
fn bound(critic: &Mlp, x: Tensor<2>, own: Tensor<2>, others: Tensor<2>) -> Tensor<1> {
    let [together, apart] =
        [own, others].map(|z| critic.forward(Tensor::cat(vec![x.clone(), z], 1)));
    // Subtracts the largest value before the exponential, so that it cannot overflow.
    let most = apart.clone().detach().max();
    let apart = (apart - most.clone().unsqueeze_dim(1)).exp().mean().log() + most;
    together.mean() - apart
}

/// Columns of mean 0 and variance 1; a constant column becomes 0.
fn standardised(values: Tensor<2>) -> Tensor<2> {
    let centred = values.clone() - values.mean_dim(0);
    let deviation = centred.clone().powi_scalar(2).mean_dim(0).sqrt();
    centred / deviation.clamp_min(1e-8)
}

fn shuffled(rows: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(rng);
    order
}

fn indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    Tensor::from_data(TensorData::new(values, [rows.len()]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::init;

    /// Normal pairs of correlation ρ have mutual information −½ ln(1 − ρ²) nats.
    #[test]
    fn normal_pairs_have_the_information_of_their_correlation() {
        let rows = 1500;
        let values = init::normals(2 * rows, &mut keyed(1, of_model::INIT, 0, 0, 0));
        let (x, noise) = values.split_at(rows);
        let column = |values: Vec<f32>| init::matrix(values, 1, &Device::flex());
        let estimate = |rho: f32| {
            let of =
                |(x, noise): (&f32, &f32)| 5.0 + 3.0 * (rho * x + (1.0 - rho * rho).sqrt() * noise);
            let z = x.iter().zip(noise).map(of).collect();
            let how = Estimate { seed: 1, number: 0, epochs: 40, batch: 250 };
            how.nats(column(x.to_vec()), column(z))
        };
        let [none, some, much] = [0.0, 0.6, 0.9].map(estimate);
        assert!(none < 0.05, "{none}");
        assert!((some - 0.223).abs() < 0.06, "{some}");
        assert!((much - 0.830).abs() < 0.12, "{much}");
    }

    #[test]
    fn rows_that_are_all_alike_know_nothing() {
        let how = Estimate { seed: 1, number: 0, epochs: 5, batch: 4 };
        let same = init::matrix(vec![2.0; 12], 2, &Device::flex());
        assert!(how.nats(same.clone(), same) < 1e-3);
    }
}
