//! MoCo v2 (protocol 2.1): a query encoder is trained to tell its image's key, made by an EMA copy,
//! from a queue of past keys.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData, s};
use rand::seq::SliceRandom;
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_model::{EncoderConfig, KeyQueue, Mlp, ResNet, l2_normalize, update_ema};

use crate::method::{Method, MethodConfig, Progress, Step};

/// An encoder with its projection head.
#[derive(Module, Debug)]
struct Projected {
    encoder: ResNet,
    head: Mlp,
}

impl Projected {
    /// Linear, ReLU, Linear on the pooled features, no batch norm.
    fn new(config: &EncoderConfig, dim: usize, seed: u64, device: &Device) -> Self {
        let mut rng = chance::rng(seed, Purpose::Init, 0, 0, 0);
        let width = config.dim();
        Self {
            encoder: config.init(&mut rng, device),
            head: Mlp::new(&[width, width, dim], &mut rng, device),
        }
    }

    /// Unit embeddings `[batch, dim]`; each of `groups` equal parts of the batch has its own
    /// batch-norm statistics.
    fn forward(&self, images: Tensor<4>, groups: usize) -> Tensor<2> {
        let parts = images.chunk(groups, 0).into_iter().map(|part| self.encoder.forward(part));
        l2_normalize(self.head.forward(Tensor::cat(parts.collect(), 0)))
    }
}

/// The networks and the queue of MoCo v2.
#[derive(Module, Debug)]
pub struct Moco {
    query: Projected,
    key: Projected,
    queue: KeyQueue,
    momentum: f64,
    temperature: f64,
    bn_groups: usize,
}

impl Moco {
    /// Query and key encoder start equal; the queue starts with random unit rows. `device` is an
    /// autodiff device.
    pub fn new(method: &MethodConfig, encoder: &EncoderConfig, seed: u64, device: &Device) -> Self {
        let MethodConfig::MocoV2 { queue, momentum, temperature, dim, bn_groups } = *method;
        let query = Projected::new(encoder, dim, seed, device);
        // A second init with the same key, not a clone: a clone would share running statistics and
        // parameter ids. Without gradients, its batch norms still train.
        let key = Projected::new(encoder, dim, seed, device).no_grad();
        let mut rng = chance::rng(seed, Purpose::Queue, 0, 0, 0);
        let queue = KeyQueue::new(queue, dim, &mut rng, device);
        Self { query, key, queue, momentum, temperature, bn_groups }
    }
}

impl Method for Moco {
    fn before_step(self, _progress: &Progress) -> Self {
        let key = update_ema(self.key, &self.query, self.momentum);
        Self { key, ..self }
    }

    fn forward(&self, views: Vec<Tensor<4>>, progress: &Progress) -> Step {
        let mut views = views.into_iter();
        let (Some(first), Some(second)) = (views.next(), views.next()) else {
            unreachable!("ChainViews::moco makes two views")
        };
        let query = self.query.forward(first, self.bn_groups);

        // Shuffling BN: each group of keys mixes images of all query groups.
        let [batch, ..] = second.dims();
        let (shuffle, restore) = permutation(batch, progress, &second.device());
        let keys = self.key.forward(second.select(0, shuffle), self.bn_groups);
        let keys = keys.select(0, restore).detach();

        let loss = info_nce(query, keys.clone(), self.queue.rows(), self.temperature);
        Step { loss, keys }
    }

    fn after_step(mut self, keys: Tensor<2>, progress: &Progress) -> Self {
        self.queue.enqueue(keys, progress.step);
        self
    }

    fn encoder(&self) -> &ResNet {
        &self.query.encoder
    }
}

/// The shuffle of a key batch and its inverse, as index tensors.
fn permutation(
    batch: usize,
    progress: &Progress,
    device: &Device,
) -> (Tensor<1, Int>, Tensor<1, Int>) {
    let mut rng = chance::rng(
        progress.seed,
        Purpose::Shuffle,
        progress.epoch as u32,
        progress.step as u64,
        0,
    );
    let mut shuffle: Vec<i64> = (0..batch as i64).collect();
    shuffle.shuffle(&mut rng);
    let mut restore = vec![0i64; batch];
    for (to, &from) in (0..).zip(&shuffle) {
        restore[from as usize] = to;
    }
    let tensor = |indices| Tensor::from_data(TensorData::new(indices, [batch]), device);
    (tensor(shuffle), tensor(restore))
}

/// InfoNCE: cross entropy of `[q·k, q·queue] / temperature` with the own key (index 0) as the class,
/// averaged over the batch. The queue is the one *before* the batch's keys enter.
///
/// # Shapes
/// - `query`, `key`: `[batch, dim]`, rows of norm 1
/// - `queue`: `[K, dim]`
/// - output: `[1]`
pub fn info_nce(query: Tensor<2>, key: Tensor<2>, queue: Tensor<2>, temperature: f64) -> Tensor<1> {
    let positive = (query.clone() * key).sum_dim(1);
    let negative = query.matmul(queue.transpose());
    let logits = Tensor::cat(vec![positive, negative], 1).div_scalar(temperature);
    log_softmax(logits, 1).slice(s![.., 0..1]).mean().neg()
}

#[cfg(test)]
#[path = "moco_golden.rs"]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_model::Stem;

    fn tensor(values: &[f32], rows: usize) -> Tensor<2> {
        let shape = [rows, values.len() / rows];
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn info_nce_by_hand() {
        let query = tensor(&[1.0, 0.0, 0.6, 0.8], 2);
        let key = tensor(&[0.8, 0.6, 0.6, 0.8], 2);
        let queue = tensor(&[0.0, 1.0, 1.0, 0.0, -1.0, 0.0], 3);
        let loss: f32 = info_nce(query, key, queue, 0.5).into_scalar();
        let row = |own: f64, others: [f64; 3]| {
            let total: f64 =
                (2.0 * own).exp() + others.map(|o| (2.0 * o).exp()).iter().sum::<f64>();
            total.ln() - 2.0 * own
        };
        let expected = (row(0.8, [0.0, 1.0, -1.0]) + row(1.0, [0.8, 0.6, -0.6])) / 2.0;
        assert!((f64::from(loss) - expected).abs() < 1e-6, "{loss} {expected}");
    }

    #[test]
    fn equal_logits_give_the_chance_level() {
        let same = tensor(&[1.0, 0.0], 1);
        let queue = tensor(&[1.0, 0.0].repeat(7), 7);
        let loss: f32 = info_nce(same.clone(), same, queue, 0.2).into_scalar();
        assert!((loss - 8f32.ln()).abs() < 1e-6);
    }

    fn progress(step: usize) -> Progress {
        Progress { seed: 1, step, epoch: 0 }
    }

    fn moco(bn_groups: usize) -> Moco {
        let method =
            MethodConfig::MocoV2 { queue: 8, momentum: 0.9, temperature: 0.2, dim: 6, bn_groups };
        let encoder = EncoderConfig::Resnet18 { width: 2, stem: Stem::Small };
        Moco::new(&method, &encoder, 1, &Device::flex().autodiff())
    }

    fn views(batch: usize) -> Vec<Tensor<4>> {
        let count = batch * 3 * 64;
        let values: Vec<f32> = (0..count).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
        let device = Device::flex().autodiff();
        let data = TensorData::new(values, [batch, 3, 8, 8]);
        vec![Tensor::from_data(data.clone(), &device), Tensor::from_data(data, &device)]
    }

    #[test]
    fn equal_views_and_encoders_give_equal_embeddings_despite_the_shuffle() {
        let moco = moco(1);
        let two = views(4);
        let query = moco.query.forward(two[0].clone(), 1);
        let step = moco.forward(two, &progress(0));
        query.into_data().assert_approx_eq::<f32>(
            &step.keys.into_data(),
            burn::tensor::Tolerance::absolute(1e-5),
        );
    }

    #[test]
    fn keys_enter_the_queue_after_the_loss_and_only_the_query_gets_gradients() {
        let moco = moco(2).before_step(&progress(0));
        let before = moco.queue.rows().into_data();
        let step = moco.forward(views(4), &progress(0));
        assert_eq!(moco.queue.rows().into_data(), before);
        let keys = step.keys.clone().into_data();
        let grads = step.loss.backward();
        let grads = burn::optim::GradientsParams::from_grads(grads, &moco);
        let of_query = {
            let step = moco.forward(views(4), &progress(0));
            burn::optim::GradientsParams::from_grads(step.loss.backward(), &moco.query).len()
        };
        assert_eq!(grads.len(), of_query);
        let moco = moco.after_step(step.keys, &progress(1));
        assert_eq!(moco.queue.rows().slice(s![4..8, ..]).into_data(), keys);
    }
}
