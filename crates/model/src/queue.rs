//! MoCo's queue of keys: a ring buffer of the last K keys.

use std::ops::Range;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, s};
use rand::Rng;

use crate::{ModelError, init};

/// The last K keys, `[K, dim]`, without gradient.
#[derive(Module, Debug)]
pub struct KeyQueue {
    rows: Param<Tensor<2>>,
}

impl KeyQueue {
    /// Starts with random unit rows, as the reference does.
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

    /// The rows written by `count` keys that came after `before` others, `[count, dim]`; all rows if there were more
    /// keys than rows.
    pub fn written(&self, count: usize, before: usize) -> Tensor<2> {
        let rows = self.rows();
        let [size, dim] = rows.dims();
        let parts = ring(size, count.min(size), before.saturating_add(count.saturating_sub(size)));
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.map(|part| rows.clone().slice(s![part, ..])).collect();
        match parts.is_empty() {
            true => Tensor::zeros([0, dim], &rows.device()),
            false => Tensor::cat(parts, 0),
        }
    }

    /// Replaces the oldest rows by `keys` (`[count, dim]`, detached), which come after `before` others. The ring
    /// wraps around for batches of any size; if there are more keys than rows, the last ones stay.
    ///
    /// # Errors
    /// [`ModelError::Keys`] if the keys and the rows differ in length.
    pub fn enqueue(&mut self, keys: Tensor<2>, before: usize) -> Result<(), ModelError> {
        let [size, expected] = self.rows.dims();
        let [count, found] = keys.dims();
        if found != expected {
            return Err(ModelError::Keys { found, expected });
        }
        if size == 0 || count == 0 {
            return Ok(());
        }
        let over = count.saturating_sub(size);
        let [end, start] = ring(size, count - over, before.saturating_add(over));
        let mut keys = keys.detach();
        if over > 0 {
            keys = keys.slice(s![over.., ..]);
        }
        // Moved out, not cloned, so that rows without another owner are overwritten in place.
        let blank = Tensor::zeros([1, 1], &keys.device());
        let blank = Param::initialized(ParamId::new(), blank);
        let rows = std::mem::replace(&mut self.rows, blank);
        self.rows = rows.map(|mut rows| {
            if !start.is_empty() {
                let rest = keys.clone().slice(s![end.len().., ..]);
                rows = rows.slice_assign(s![start, ..], rest);
                keys = keys.slice(s![..end.len(), ..]);
            }
            rows.slice_assign(s![end, ..], keys).detach().set_require_grad(false)
        });
        Ok(())
    }
}

/// The place of `count` rows after `before` others in a ring of `size`: a range up to its end and one from its start.
fn ring(size: usize, count: usize, before: usize) -> [Range<usize>; 2] {
    let at = before.checked_rem(size).unwrap_or(0);
    let first = count.min(size - at);
    [at..at + first, 0..count - first]
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
            queue.enqueue(keys, 2 * step).unwrap();
        }
        let rows: Vec<f32> = queue.rows().into_data().try_to_vec().unwrap();
        assert_eq!(rows, [13.0, 13.0, 11.0, 11.0, 12.0, 12.0]);
        assert!(!queue.rows().is_require_grad());
        let written: Vec<f32> = queue.written(2, 4).into_data().try_to_vec().unwrap();
        assert_eq!(written, [12.0, 12.0]);
    }
    /// As in CompReSS's reference, whose last batch is smaller: row `(before + i) mod K` takes key `i`.
    #[test]
    fn batches_of_any_size_go_round_the_ring() {
        let device = Device::flex().autodiff();
        let mut queue = KeyQueue::of(Tensor::zeros([5, 1], &device));
        let mut wanted = [0.0f32; 5];
        let mut before = 0;
        for count in [2, 2, 3, 1, 5, 4] {
            let keys: Vec<f32> = (before..before + count).map(|key| key as f32 + 1.0).collect();
            for (i, key) in keys.iter().enumerate() {
                wanted[(before + i) % 5] = *key;
            }
            queue.enqueue(init::matrix(keys.clone(), 1, &device), before).unwrap();
            let rows: Vec<f32> = queue.rows().into_data().try_to_vec().unwrap();
            assert_eq!(rows, wanted, "{count}");
            let written = queue.written(count, before).into_data();
            assert_eq!(written.try_to_vec::<f32>().unwrap(), keys);
            before += count;
        }
    }

    #[test]
    fn review_2_06_keys_that_do_not_fit_are_an_error_and_no_number_of_them_is_too_large() {
        let device = Device::flex().autodiff();
        let mut queue = KeyQueue::of(Tensor::zeros([3, 1], &device));
        let values =
            |queue: &KeyQueue| -> Vec<f32> { queue.rows().into_data().try_to_vec().unwrap() };
        let said = queue.enqueue(Tensor::ones([2, 4], &device), 0).unwrap_err().to_string();
        assert!(said.contains("keys of length 4"), "{said}");
        assert_eq!(values(&queue), [0.0; 3]);
        // Eight keys wrap around twice: the last three stay, each in its own row.
        let keys: Vec<f32> = (0..8u8).map(f32::from).collect();
        queue.enqueue(init::matrix(keys, 1, &device), 1).unwrap();
        assert_eq!(values(&queue), [5.0, 6.0, 7.0]);
        assert_eq!(queue.written(8, 1).dims(), [3, 1]);
        let mut empty = KeyQueue::of(Tensor::zeros([0, 1], &device));
        empty.enqueue(Tensor::ones([2, 1], &device), 0).unwrap();
        assert_eq!(empty.written(2, 0).dims(), [0, 1]);
    }
}
