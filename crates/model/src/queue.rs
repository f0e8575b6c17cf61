//! The queue of keys of MoCo: a ring of the last K keys.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, s};
use rand::Rng;

use crate::init;

/// The last K keys, `[K, dim]`, without gradient.
#[derive(Module, Debug)]
pub struct KeyQueue {
    rows: Param<Tensor<2>>,
}

impl KeyQueue {
    /// Random unit rows, as the reference starts.
    pub fn new(size: usize, dim: usize, rng: &mut impl Rng, device: &Device) -> Self {
        Self::of(init::unit_rows(size, dim, rng, device))
    }

    /// Starts with these rows.
    pub fn of(rows: Tensor<2>) -> Self {
        Self { rows: Param::initialized(ParamId::new(), rows.set_require_grad(false)) }
    }

    /// The rows, `[K, dim]`.
    pub fn rows(&self) -> Tensor<2> {
        self.rows.val()
    }

    /// The rows that batch number `step` (from 0) of `batch` images wrote, `[batch, dim]`.
    pub fn written(&self, batch: usize, step: usize) -> Tensor<2> {
        let at = step * batch % self.rows.dims()[0];
        self.rows().slice(s![at..at + batch, ..])
    }

    /// Replaces the oldest rows by `keys` (`[batch, dim]`, detached). Batches have one size that
    /// divides K, so the place of batch number `step` (from 0) is known and needs no state.
    pub fn enqueue(&mut self, keys: Tensor<2>, step: usize) {
        let [size, _] = self.rows.dims();
        let [batch, _] = keys.dims();
        let at = step * batch % size;
        // Moved out, not cloned: rows that nobody else holds are overwritten in place.
        let blank = Tensor::zeros([1, 1], &keys.device());
        let blank = Param::initialized(ParamId::new(), blank);
        let rows = std::mem::replace(&mut self.rows, blank);
        self.rows = rows.map(|rows| {
            let rows = rows.slice_assign(s![at..at + batch, ..], keys.detach());
            rows.detach().set_require_grad(false)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn holds_the_last_k_keys_in_a_ring() {
        let device = Device::flex().autodiff();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut queue = KeyQueue::new(6, 1, &mut rng, &device);
        let start: Vec<f32> = queue.rows().into_data().try_to_vec().unwrap();
        assert!(start.iter().all(|v| (v.abs() - 1.0).abs() < 1e-6));
        for step in 0..4 {
            let keys = Tensor::full([2, 1], step as f32 + 10.0, &device);
            queue.enqueue(keys, step);
        }
        let rows: Vec<f32> = queue.rows().into_data().try_to_vec().unwrap();
        assert_eq!(rows, [13.0, 13.0, 11.0, 11.0, 12.0, 12.0]);
        assert!(!queue.rows().is_require_grad());
        let written: Vec<f32> = queue.written(2, 2).into_data().try_to_vec().unwrap();
        assert_eq!(written, [12.0, 12.0]);
    }
}
