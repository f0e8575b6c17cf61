//! An encoder with its projection head, and shuffling batch norm: what methods with two views share.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use rand::Rng;
use rand::seq::SliceRandom;
use ssl_backdoor_model::{Encoder, EncoderConfig, HeadEnd, Mlp};
use ssl_backdoor_rng::keyed;

use crate::loss::indices;
use crate::method::Progress;
use crate::purpose;

/// An encoder with its projection head.
#[derive(Module, Debug)]
pub(crate) struct Projected {
    pub encoder: Encoder,
    pub head: Mlp,
}

impl Projected {
    /// The run's initial encoder, and a head of the widths that `head` returns for the length of its features.
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

    /// The run's initial encoder, and a head with batch norm that ends with `end` and has the widths that `widths`
    /// returns for the length of its features.
    pub fn ending(
        config: &EncoderConfig,
        rng: &mut impl Rng,
        device: &Device,
        widths: impl FnOnce(usize) -> Vec<usize>,
        end: HeadEnd,
    ) -> Self {
        let encoder = config.init(rng, device);
        Self { encoder, head: Mlp::ending(&widths(config.dim()), end, rng, device) }
    }

    /// Embeddings `[batch, dim]`. In the encoder, each of `groups` equal parts of the batch has its own batch-norm
    /// statistics; in the head, the whole batch shares them.
    pub fn forward(&self, images: Tensor<4>, groups: usize) -> Tensor<2> {
        self.head.forward(by_group(images, groups, |part| self.encoder.forward(part)))
    }
}

/// The outputs of `network` for `groups` equal parts of a batch, concatenated: batch norm has statistics for each
/// part. All parts update the running statistics, one after the other; the reference keeps those of its first GPU.
pub(crate) fn by_group(
    images: Tensor<4>,
    groups: usize,
    network: impl Fn(Tensor<4>) -> Tensor<2>,
) -> Tensor<2> {
    Tensor::cat(images.chunk(groups, 0).into_iter().map(network).collect(), 0)
}

/// Shuffling BN: the outputs of `network` for a permuted batch, put back in order. Each group of the permuted batch
/// mixes images of all groups of another network.
pub(crate) fn shuffled(
    images: Tensor<4>,
    progress: &Progress,
    network: impl FnOnce(Tensor<4>) -> Tensor<2>,
) -> Tensor<2> {
    let (shuffle, restore) = permutation(images.dims()[0], progress, &images.device());
    network(images.select(0, shuffle)).select(0, restore)
}

/// The shuffle of a batch and its inverse, as index tensors.
fn permutation(
    batch: usize,
    progress: &Progress,
    device: &Device,
) -> (Tensor<1, Int>, Tensor<1, Int>) {
    let (epoch, step) = (progress.epoch as u32, progress.step as u64);
    let mut rng = keyed(progress.seed, purpose::SHUFFLE, epoch, step, 0);
    let mut shuffle: Vec<i64> = (0..batch as i64).collect();
    shuffle.shuffle(&mut rng);
    let mut restore = vec![0i64; batch];
    for (to, &from) in (0..).zip(&shuffle) {
        restore[from as usize] = to;
    }
    (indices(shuffle, device), indices(restore, device))
}
