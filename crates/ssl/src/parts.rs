//! Steps that process their batch in parts, one after the other: a forward and backward pass for each part, and the
//! sum of their gradients.

use std::ops::Range;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{DType, Device, Tensor, TensorData};
use ssl_backdoor_data::Pixels;

use crate::method::{Batch, Step};

/// A batch on the host.
#[derive(Clone)]
pub(crate) struct HostBatch {
    pub views: Vec<Pixels>,
    pub ids: Vec<u64>,
    pub hidden: Vec<Vec<bool>>,
}

impl HostBatch {
    /// The batch in at most `count` parts of nearly equal sizes, each of at least two images if there are several.
    pub fn parts(self, count: usize) -> Vec<Self> {
        let images = self.ids.len();
        let count = count.min(images / 2).max(1);
        if count == 1 {
            return vec![self];
        }
        (0..count).map(|i| self.part(i * images / count..(i + 1) * images / count)).collect()
    }

    fn part(&self, range: Range<usize>) -> Self {
        let of = |view: &Pixels| {
            let [_, channels, height, width] = view.shape;
            let length = channels * height * width;
            let values = view.values[range.start * length..range.end * length].to_vec();
            Pixels { values, shape: [range.len(), channels, height, width] }
        };
        Self {
            views: self.views.iter().map(of).collect(),
            ids: self.ids[range.clone()].to_vec(),
            hidden: self.hidden.get(range.clone()).unwrap_or_default().to_vec(),
        }
    }

    /// The batch on `device` in the format `dtype`.
    pub fn on(self, device: &Device, dtype: DType) -> Batch {
        let tensor = |Pixels { values, shape }| {
            Tensor::<4>::from_data(TensorData::new(values, shape), device).cast(dtype)
        };
        let views = self.views.into_iter().map(tensor).collect();
        Batch { views, ids: self.ids, hidden: self.hidden }
    }
}

/// Results of the forward and backward passes of a step.
pub(crate) struct Pass {
    /// Mean loss of the batch.
    pub loss: f32,
    /// Its gradients.
    pub grads: GradientsParams,
    /// The rows that enter each of the queues or banks.
    pub keys: Vec<Tensor<2>>,
    /// The negatives of the first of `keys`.
    pub negatives: Option<Tensor<2>>,
    /// The embeddings behind the loss, of all images.
    pub embeddings: Tensor<2>,
    /// Share of correct answers in a pretext task.
    pub accuracy: Option<f32>,
    /// Time that the device still computed after all that could be done meanwhile.
    pub busy: Duration,
}

impl Pass {
    /// Runs the backward pass of a part that is a share `share` of the batch. `meanwhile` runs while the device still
    /// computes: nothing is read from the device before.
    pub fn of<M: Module>(method: &M, out: Step, share: f32, meanwhile: impl FnOnce()) -> Self {
        let Step { loss, keys, negatives, embeddings, accuracy } = out;
        let weighted = if share == 1.0 { loss.clone() } else { loss.clone().mul_scalar(share) };
        let grads = GradientsParams::from_grads(weighted.backward(), method);
        meanwhile();
        let start = Instant::now();
        let loss: f32 = share * loss.into_scalar::<f32>();
        let busy = start.elapsed();
        let accuracy = accuracy.map(|right| share * right.into_scalar::<f32>());
        Self { loss, grads, keys, negatives, embeddings, accuracy, busy }
    }

    /// Appends the next part.
    pub fn and<M: Module>(self, next: Self, method: &M) -> Self {
        let mut grads = GradientsAccumulator::new();
        grads.accumulate(method, self.grads);
        grads.accumulate(method, next.grads);
        let joined = |a: Tensor<2>, b: Tensor<2>| Tensor::cat(vec![a, b], 0);
        Self {
            loss: self.loss + next.loss,
            grads: grads.grads(),
            keys: self.keys.into_iter().zip(next.keys).map(|(a, b)| joined(a, b)).collect(),
            negatives: self.negatives,
            embeddings: joined(self.embeddings, next.embeddings),
            accuracy: self.accuracy.zip(next.accuracy).map(|(a, b)| a + b),
            busy: self.busy + next.busy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(images: usize) -> HostBatch {
        let view = |first: usize| Pixels {
            values: (0..12 * images).map(|i| (first + i) as f32).collect(),
            shape: [images, 3, 2, 2],
        };
        let hidden = (0..images).map(|i| vec![i == 1]).collect();
        HostBatch {
            views: vec![view(0), view(1000)],
            ids: (7..7 + images as u64).collect(),
            hidden,
        }
    }

    #[test]
    fn parts_are_the_batch_in_order_and_hold_two_images_at_least() {
        for (images, count, sizes) in [
            (8, 1, vec![8]),
            (8, 2, vec![4, 4]),
            (7, 3, vec![2, 2, 3]),
            (4, 4, vec![2, 2]),
            (3, 2, vec![3]),
            (1, 2, vec![1]),
        ] {
            let whole = batch(images);
            let parts = batch(images).parts(count);
            let found: Vec<usize> = parts.iter().map(|part| part.ids.len()).collect();
            assert_eq!(found, sizes, "{images} in {count}");
            let joined = |view: usize| parts.iter().flat_map(move |p| p.views[view].values.clone());
            for view in 0..2 {
                assert_eq!(joined(view).collect::<Vec<_>>(), whole.views[view].values);
                let shapes = parts.iter().map(|part| part.views[view].shape);
                assert!(shapes.zip(&sizes).all(|(shape, &size)| shape == [size, 3, 2, 2]));
            }
            let ids = parts.iter().flat_map(|part| part.ids.clone());
            assert_eq!(ids.collect::<Vec<_>>(), whole.ids);
            let hidden = parts.iter().flat_map(|part| part.hidden.clone());
            assert_eq!(hidden.collect::<Vec<_>>(), whole.hidden);
        }
        // A method that hides nothing has no masks.
        let bare = HostBatch { hidden: Vec::new(), ..batch(4) };
        assert!(bare.parts(2).iter().all(|part| part.hidden.is_empty()));
    }
}
