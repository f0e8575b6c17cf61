//! An encoder with its projection head, and shuffling batch norm: what MoCo v2, BYOL and MSF share.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::Rng;
use rand::seq::SliceRandom;
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_model::{Encoder, EncoderConfig, Mlp};

use crate::method::Progress;

/// An encoder with its projection head.
#[derive(Module, Debug)]
pub(crate) struct Projected {
    pub encoder: Encoder,
    pub head: Mlp,
}

impl Projected {
    /// The run's initial encoder, and the head that `head` makes for features of its length.
    pub fn new(
        config: &EncoderConfig,
        rng: &mut impl Rng,
        device: &Device,
        head: impl FnOnce(usize) -> Vec<usize>,
        normed: bool,
    ) -> Self {
        let encoder = config.init(rng, device);
        let widths = head(config.dim());
        let head =
            if normed { Mlp::normed(&widths, rng, device) } else { Mlp::new(&widths, rng, device) };
        Self { encoder, head }
    }

    /// Embeddings `[batch, dim]`; in the encoder each of `groups` equal parts of the batch has its own
    /// batch-norm statistics. All of them move the running ones, one after the other; the reference
    /// keeps those of its first GPU.
    pub fn forward(&self, images: Tensor<4>, groups: usize) -> Tensor<2> {
        let parts = images.chunk(groups, 0).into_iter().map(|part| self.encoder.forward(part));
        self.head.forward(Tensor::cat(parts.collect(), 0))
    }

    /// Shuffling BN: the same of a permuted batch, put back in order, so that each group mixes images
    /// of all groups of the other network.
    pub fn forward_shuffled(
        &self,
        images: Tensor<4>,
        groups: usize,
        progress: &Progress,
    ) -> Tensor<2> {
        let (shuffle, restore) = permutation(images.dims()[0], progress, &images.device());
        self.forward(images.select(0, shuffle), groups).select(0, restore)
    }
}

/// The shuffle of a batch and its inverse, as index tensors.
fn permutation(
    batch: usize,
    progress: &Progress,
    device: &Device,
) -> (Tensor<1, Int>, Tensor<1, Int>) {
    let (epoch, step) = (progress.epoch as u32, progress.step as u64);
    let mut rng = chance::rng(progress.seed, Purpose::Shuffle, epoch, step, 0);
    let mut shuffle: Vec<i64> = (0..batch as i64).collect();
    shuffle.shuffle(&mut rng);
    let mut restore = vec![0i64; batch];
    for (to, &from) in (0..).zip(&shuffle) {
        restore[from as usize] = to;
    }
    (indices(shuffle, device), indices(restore, device))
}

/// Indices as a tensor.
pub(crate) fn indices(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
