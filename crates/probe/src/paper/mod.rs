//! The `paper` protocol: each method's own probe, as the reference trains it (protocol 3.2 to 3.5 and 2.6). All but
//! BYOL's augment the labelled images at every step, so features are computed anew and not cached.

mod head;
mod lars;
mod rules;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_data::{Pixels, SampleSet, plain_batch, view_batch};
use ssl_backdoor_model::Encoder;

use crate::ProbeError;
use head::{Classifier, Normed};
use lars::Lars;
use rules::{Norm, Optimizer, Reads, SIDES};

pub use rules::Rules;

/// Images in a forward pass without training.
const BATCH: usize = 250;

/// The labelled images, as they are (to be augmented) and prepared as evaluation images are.
pub struct Labelled<'a> {
    /// As they are.
    pub images: &'a SampleSet,
    /// Prepared, in the same order.
    pub prepared: &'a SampleSet,
    /// Side of a prepared image in pixels.
    pub size: u32,
}

/// The trained classifiers of one encoder: one, or one for each of five maps.
pub struct PaperProbe<'a> {
    encoder: &'a Encoder,
    rules: Rules,
    norms: Vec<Normed>,
    heads: Vec<Classifier>,
    device: Device,
}

impl<'a> PaperProbe<'a> {
    /// Trains on the labelled images as `rules` say; weights, order and views are keyed by `seed`. `encoder` is in
    /// evaluation mode on `device` (without autodiff).
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn fit(
        rules: Rules,
        encoder: &'a Encoder,
        labelled: &Labelled<'_>,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ProbeError> {
        let plain = device.clone().without_autodiff();
        let on = plain.clone().autodiff();
        let mut probe =
            Self { encoder, rules, norms: Vec::new(), heads: Vec::new(), device: plain };
        let views = probe.rules.views(labelled.size);
        let count = labelled.prepared.len();
        // Features of the plain images: for their statistics, for a probe that reads nothing else, and for the
        // shapes of the rest.
        let once = views.is_none() || probe.rules.norm == Norm::L2Standard;
        let (kept, labels) = probe.features(labelled.prepared, if once { count } else { 1 })?;
        for (i, features) in kept.iter().enumerate() {
            let [_, channels, places] = features.dims();
            let mut rng = chance::rng(seed, Purpose::ProbeInit, 0, i as u64, 0);
            let dim = channels * places;
            probe.heads.push(Classifier::new(&probe.rules, dim, classes, &mut rng, &on));
            let mut norm = Normed::new(probe.rules.norm);
            if probe.rules.norm == Norm::L2Standard {
                norm.standardise(features.clone());
            }
            probe.norms.push(norm);
        }
        let mut optimizer = Trained::new(probe.rules.optimizer);
        let loss = CrossEntropyLossConfig::new().init(&on);
        let all: Vec<u64> = (0..count as u64).collect();
        let batch = probe.rules.batch.min(count);
        for epoch in 0..probe.rules.epochs {
            let order = chance::ranked(&all, seed, Purpose::ProbeOrder, epoch as u32);
            let order: Vec<usize> = order.into_iter().map(|i| i as usize).collect();
            let parts: Vec<&[usize]> = order
                .chunks(batch)
                .filter(|p| !probe.rules.drop_last || p.len() == batch)
                .collect();
            for (step, part) in parts.iter().enumerate() {
                let (features, targets) = match &views {
                    Some(views) => {
                        let key = (seed, epoch as u32);
                        let (pixels, labels) =
                            view_batch(labelled.images.as_ref(), views.as_ref(), part, key)?;
                        (probe.read(pixels), labels)
                    }
                    None => {
                        let indices: Vec<i64> = part.iter().map(|&i| i as i64).collect();
                        let indices = Tensor::from_data(
                            TensorData::new(indices, [part.len()]),
                            &probe.device,
                        );
                        let chosen = kept.iter().map(|f| f.clone().select(0, indices.clone()));
                        (chosen.collect(), part.iter().map(|&i| labels[i]).collect())
                    }
                };
                let targets: Vec<i64> = targets.into_iter().map(i64::from).collect();
                let targets =
                    Tensor::<1, Int>::from_data(TensorData::new(targets, [part.len()]), &on);
                let mut sum: Option<Tensor<1>> = None;
                let heads = probe.heads.iter().zip(&mut probe.norms);
                for ((head, norm), features) in heads.zip(features) {
                    let x = Tensor::from_inner(norm.train(features)).flatten(1, 2);
                    let own = loss.forward(head.linear.forward(x), targets.clone());
                    sum = Some(sum.map_or(own.clone(), |sum| sum + own));
                }
                let Some(sum) = sum else { break };
                let grads = GradientsParams::from_grads(sum.backward(), &probe.heads);
                let lr = probe.rules.lr(epoch, step, parts.len(), batch);
                probe.heads = optimizer.step(lr, probe.heads, grads);
            }
        }
        probe.heads = probe.heads.valid();
        Ok(probe)
    }

    /// The classes of the images of `set` (prepared), by classifier.
    ///
    /// # Errors
    /// An image cannot be read.
    pub fn predict(&self, set: &SampleSet) -> Result<Vec<Vec<u32>>, ProbeError> {
        let mut found = vec![Vec::with_capacity(set.len()); self.heads.len()];
        for first in (0..set.len()).step_by(BATCH) {
            let (pixels, _) = plain_batch(set.as_ref(), first..set.len().min(first + BATCH))?;
            let heads = self.heads.iter().zip(&self.norms).zip(&mut found);
            for (((head, norm), found), features) in heads.zip(self.read(pixels)) {
                let classes = head.linear.forward::<2>(norm.eval(features).flatten(1, 2)).argmax(1);
                found.extend(classes.into_data().iter::<i64>().map(|class| class as u32));
            }
        }
        Ok(found)
    }

    /// Features `[batch, channels, places]` of each kind that the rules read.
    fn read(&self, pixels: Pixels) -> Vec<Tensor<3>> {
        let images = Tensor::from_data(TensorData::new(pixels.values, pixels.shape), &self.device);
        match (self.rules.reads, self.encoder) {
            (Reads::Maps, Encoder::ResNet(net)) => {
                let pooled = |(map, side)| adaptive_avg_pool2d(map, [side; 2]).flatten(2, 3);
                net.maps(images).into_iter().zip(SIDES).map(pooled).collect()
            }
            _ => vec![self.encoder.forward(images).unsqueeze_dim(2)],
        }
    }

    /// Features and labels of the first `count` images of `set`.
    fn features(
        &self,
        set: &SampleSet,
        count: usize,
    ) -> Result<(Vec<Tensor<3>>, Vec<u32>), ProbeError> {
        let (mut all, mut labels): (Vec<Vec<Tensor<3>>>, Vec<u32>) = (Vec::new(), Vec::new());
        for first in (0..count).step_by(BATCH) {
            let (pixels, of) = plain_batch(set.as_ref(), first..count.min(first + BATCH))?;
            labels.extend(of);
            for (i, features) in self.read(pixels).into_iter().enumerate() {
                match all.get_mut(i) {
                    Some(parts) => parts.push(features),
                    None => all.push(vec![features]),
                }
            }
        }
        Ok((all.into_iter().map(|parts| Tensor::cat(parts, 0)).collect(), labels))
    }
}

/// An optimiser with its state.
enum Trained {
    Burn(ModuleOptimizer),
    Lars(Lars),
}

impl Trained {
    fn new(optimizer: Optimizer) -> Self {
        let decay = |penalty| Some(WeightDecayConfig::new(penalty));
        match optimizer {
            Optimizer::Sgd { nesterov, weight_decay } => {
                let momentum = MomentumConfig::new()
                    .with_momentum(0.9)
                    .with_dampening(0.0)
                    .with_nesterov(nesterov);
                let config = SgdConfig::new()
                    .with_momentum(Some(momentum))
                    .with_weight_decay(decay(weight_decay));
                Self::Burn(config.init())
            }
            Optimizer::Adam { weight_decay } => {
                let config =
                    AdamConfig::new().with_epsilon(1e-8).with_weight_decay(decay(weight_decay));
                Self::Burn(config.init())
            }
            Optimizer::Lars => Self::Lars(Lars::default()),
        }
    }

    fn step(&mut self, lr: f64, heads: Vec<Classifier>, grads: GradientsParams) -> Vec<Classifier> {
        match self {
            Self::Burn(optimizer) => optimizer.step(lr, heads, grads),
            Self::Lars(lars) => lars.step(lr, heads, &grads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssl_backdoor_data::{DataConfig, Shapes};
    use ssl_backdoor_model::{EncoderConfig, Stem};

    /// Every method's probe on a random encoder and sixty drawn images: far better than chance on what it was trained
    /// on, and the same for the same seed. Rates are raised where so few images leave an epoch one step.
    #[test]
    fn each_methods_probe_learns_its_labels() {
        let shapes =
            Shapes { size: 16, per_class: 6, eval_per_class: 1, seed: 1, eval: Default::default() };
        let splits = DataConfig::Shapes(shapes).load(&|_, _, _| {}).unwrap();
        let device = Device::flex();
        let labelled = Labelled { images: &splits.train.set, prepared: &splits.plain, size: 16 };
        let truth: Vec<u32> = splits.train.labels.iter().map(|(_, label)| *label).collect();
        let mut rng = chance::rng(1, Purpose::Init, 0, 0, 0);
        let encoder = EncoderConfig::Resnet18 { width: 8, stem: Stem::Small };
        let encoder = encoder.init(&mut rng, &device).valid();
        let fast = |lr| rules::Rate::Steps(vec![(0, lr)]);
        for (name, rules, heads) in [
            ("moco", Rules { rate: fast(0.1), ..Rules::moco() }, 1),
            ("byol", Rules::byol(), 1),
            ("jigsaw", Rules { rate: fast(0.1), ..Rules::jigsaw() }, 5),
            ("rotnet", Rules { epochs: 10, ..Rules::rotnet() }, 5),
            ("mae", Rules { rate: fast(6.4), ..Rules::mae() }, 1),
        ] {
            let fit =
                || PaperProbe::fit(rules.clone(), &encoder, &labelled, 10, 3, &device).unwrap();
            let found = fit().predict(&splits.plain).unwrap();
            assert_eq!(found.len(), heads, "{name}");
            let right = |found: &Vec<u32>| {
                found.iter().zip(&truth).filter(|(a, b)| a == b).count() as f64 / truth.len() as f64
            };
            let best = found.iter().map(right).fold(0.0, f64::max);
            assert!(best > 0.3, "{name}: {best}");
            if name == "byol" {
                assert_eq!(fit().predict(&splits.plain).unwrap(), found);
            }
        }
    }
}
