//! Fine-tuning: a linear classifier on top of an encoder, or on top of the first layers of its projection head if the
//! method keeps them. All of them are trained on the labelled images (SimCLR v2, arXiv 2006.10029, section 2).

use burn::module::{Module, ParamGroup};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_data::purpose::PROBE_VIEW;
use ssl_backdoor_data::{Pixels, SampleSet, plain_batch, view_batch};
use ssl_backdoor_fields::require;
use ssl_backdoor_model::{Encoder, Lars, LarsConfig, LarsScope, Mlp, init};
use ssl_backdoor_rng::{keyed, ranked};

use crate::paper::{Labelled, Optimizer};
use crate::purpose::{PROBE_INIT, PROBE_ORDER};
use crate::{ProbeError, features};

/// Images per forward pass without training.
const BATCH: usize = 250;
/// Standard deviation of the classifier's initial weights.
const WEIGHT_STD: f32 = 0.01;

/// The optimiser of a fine-tuning; neither lets weights decay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FineTuneOptimizer {
    /// LARS with a trust coefficient of 0.001, as in the code of SimCLR v2. The classifier takes plain steps with the same
    /// momentum.
    #[default]
    Lars,
    /// SGD with a Nesterov momentum of 0.9, as in the SimCLR paper. Better for small data sets, where an epoch has few
    /// steps: a step of LARS moves a weight by only a thousandth of its norm times the learning rate.
    Sgd,
}

/// How an encoder is fine-tuned. The defaults are those of the official code of SimCLR v2 for 1 % of ImageNet's labels,
/// with a cosine and without warm-up. For 10 % it trains 30 epochs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FineTuneConfig {
    /// Passes over the labelled images.
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: usize,
    /// Images in a step, at most the number of labelled images.
    #[schemars(range(min = 2))]
    pub batch: usize,
    /// Learning rate before its cosine. Default: 0.005 · √batch with LARS, 0.05 · batch / 256 with SGD.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: Option<f64>,
    /// The optimiser.
    pub optimizer: FineTuneOptimizer,
}

impl Default for FineTuneConfig {
    fn default() -> Self {
        Self { epochs: 60, batch: 1024, lr: None, optimizer: FineTuneOptimizer::Lars }
    }
}

impl FineTuneConfig {
    pub(crate) fn check(&self) -> Result<(), ProbeError> {
        let fits = (1..=100_000).contains(&self.epochs);
        require(fits, "fine_tune.epochs", self.epochs, "1 to 100,000")?;
        require(self.batch > 1, "fine_tune.batch", self.batch, "2 or more")?;
        let lr = self.lr.unwrap_or(1.0);
        Ok(require(lr.is_finite() && lr > 0.0, "fine_tune.lr", lr, "above 0")?)
    }

    /// The learning rate at `step` of `steps`, with batches of `batch` images.
    fn rate(&self, step: usize, steps: usize, batch: usize) -> f64 {
        let lr = self.lr.unwrap_or(match self.optimizer {
            FineTuneOptimizer::Lars => 0.005 * (batch as f64).sqrt(),
            FineTuneOptimizer::Sgd => 0.05 * batch as f64 / 256.0,
        });
        lr * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos())
    }

    /// The optimiser of a [`Network`].
    fn optimizer(&self) -> ModuleOptimizer {
        match self.optimizer {
            FineTuneOptimizer::Lars => {
                let of = |scaled| {
                    let (norm_of_sum, lr_in_momentum) = (true, true);
                    let plain = LarsConfig::new(0.001, false);
                    let config = LarsConfig { scaled, norm_of_sum, lr_in_momentum, ..plain };
                    Lars { config, weight_decay: 0.0 }
                };
                let classifier = ParamGroup::from_paths(CLASSIFIER.to_vec());
                ModuleOptimizer::from(of(LarsScope::Matrices)).with_group(
                    classifier,
                    of(LarsScope::None),
                    None,
                )
            }
            FineTuneOptimizer::Sgd => Optimizer::Sgd { nesterov: true, weight_decay: 0.0 }.build(),
        }
    }
}

/// The parameters of the classifier in a [`Network`].
const CLASSIFIER: [&str; 2] = ["linear.weight", "linear.bias"];

/// Encoder, first layers of its head, and a classifier.
#[derive(Module, Debug)]
struct Network {
    encoder: Encoder,
    kept: Option<Mlp>,
    linear: Linear,
}

impl Network {
    /// `[batch, classes]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let features = self.encoder.forward(images);
        let features = match &self.kept {
            Some(kept) => relu(kept.forward(features)),
            None => features,
        };
        self.linear.forward(features)
    }
}

/// An encoder that was fine-tuned on labelled images.
#[derive(Debug)]
pub struct FineTuned {
    network: Network,
    device: Device,
}

impl FineTuned {
    /// Fine-tunes `encoder`, and the `kept` layers of its head, on crops (0.08 to 1 of the area) and flips of the
    /// labelled images. Both are trained, so they must be on an autodiff device. The classifier's weights, the order
    /// and the views are keyed by `seed`.
    ///
    /// # Errors
    /// - [`ProbeError::Empty`] without labelled images, [`ProbeError::Label`] for a label that is not below `classes`
    /// - [`ProbeError::Diverged`] if the loss is no longer finite
    /// - [`ProbeError::Data`] if an image cannot be read
    pub fn fit(
        config: &FineTuneConfig,
        (encoder, kept): (Encoder, Option<Mlp>),
        labelled: &Labelled<'_>,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ProbeError> {
        config.check()?;
        let count = labelled.images.len();
        if count == 0 {
            return Err(ProbeError::Empty { what: "labelled images" });
        }
        let device = device.clone().without_autodiff();
        let on = device.clone().autodiff();
        let linear = classifier(width(&encoder, &kept, labelled, &on)?, classes, seed, &on);
        let mut network = Network { encoder, kept, linear };
        let mut optimizer = config.optimizer();
        let loss = CrossEntropyLossConfig::new().init(&on);
        let views = ChainViews::weak(labelled.size, (0.08, 1.0));
        let all: Vec<u64> = (0..count as u64).collect();
        let batch = config.batch.min(count);
        let steps_per_epoch = count.div_ceil(batch);
        for epoch in 0..config.epochs {
            let order = ranked(&all, seed, PROBE_ORDER, epoch as u32);
            let order: Vec<usize> = order.into_iter().map(|i| i as usize).collect();
            for (i, part) in order.chunks(batch).enumerate() {
                // Batch norm needs several images; a single labelled image is used anyway.
                if part.len() == 1 && count > 1 {
                    continue;
                }
                let key = (seed, PROBE_VIEW, epoch as u32);
                let (pixels, labels) = view_batch(labelled.images.as_ref(), &views, part, key)?;
                features::check_labels(&labels, classes)?;
                let targets: Vec<i64> = labels.into_iter().map(i64::from).collect();
                let targets = TensorData::new(targets, [part.len()]);
                let out = network.forward(to_tensor(pixels, &on));
                let loss = loss.forward(out, Tensor::<1, Int>::from_data(targets, &on));
                let step = epoch * steps_per_epoch + i;
                let lr = config.rate(step, config.epochs * steps_per_epoch, batch);
                let value: f32 = loss.clone().into_scalar();
                if !value.is_finite() {
                    return Err(ProbeError::Diverged { loss: value, epoch, lr });
                }
                let grads = GradientsParams::from_grads(loss.backward(), &network);
                network = optimizer.step(lr, network, grads);
            }
        }
        Ok(Self { network: network.valid(), device })
    }

    /// The predicted classes of the images of `set` (prepared).
    ///
    /// # Errors
    /// [`ProbeError::Data`] if an image cannot be read.
    pub fn predict(&self, set: &SampleSet) -> Result<Vec<u32>, ProbeError> {
        let mut found = Vec::with_capacity(set.len());
        for first in (0..set.len()).step_by(BATCH) {
            let (pixels, _) = plain_batch(set.as_ref(), first..set.len().min(first + BATCH))?;
            let classes = self.network.forward(to_tensor(pixels, &self.device)).argmax(1);
            found.extend(classes.into_data().iter::<i64>().map(|class| class as u32));
        }
        Ok(found)
    }
}

/// Length of the classifier's input.
fn width(
    encoder: &Encoder,
    kept: &Option<Mlp>,
    labelled: &Labelled<'_>,
    on: &Device,
) -> Result<usize, ProbeError> {
    if let Some(width) = kept.as_ref().and_then(Mlp::width) {
        return Ok(width);
    }
    let (pixels, _) = plain_batch(labelled.prepared.as_ref(), 0..1)?;
    // In evaluation mode, because batch norm needs several images.
    let images = to_tensor(pixels, &on.clone().without_autodiff());
    Ok(encoder.valid().forward(images).dims()[1])
}

fn classifier(dim: usize, classes: usize, seed: u64, on: &Device) -> Linear {
    let mut rng = keyed(seed, PROBE_INIT, 0, 0, 0);
    let values = init::normals(dim * classes, &mut rng).into_iter().map(|v| v * WEIGHT_STD);
    let weight = init::matrix(values.collect(), classes, on).require_grad();
    let mut linear = LinearConfig::new(dim, classes).init(on);
    linear.weight = linear.weight.map(|_| weight);
    linear.bias = linear.bias.map(|b| b.map(|b| b.zeros_like().require_grad()));
    linear
}

fn to_tensor(pixels: Pixels, on: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels.values, pixels.shape), on)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Param;
    use ssl_backdoor_data::{DataConfig, Shapes, Splits};
    use ssl_backdoor_model::purpose::INIT;
    use ssl_backdoor_model::{EncoderConfig, HeadEnd, OnParameter, Stem, for_each_parameter};

    const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };

    fn splits() -> Splits {
        let shapes = Shapes {
            size: 16,
            native: None,
            per_class: 6,
            eval_per_class: 1,
            seed: 1,
            eval: Default::default(),
        };
        DataConfig::Shapes(shapes).load(&|_, _, _| {}).unwrap()
    }

    fn start(with_head: bool) -> (Encoder, Option<Mlp>) {
        let device = Device::flex().autodiff();
        let mut rng = keyed(1, INIT, 0, 0, 0);
        let encoder = ENCODER.init(&mut rng, &device);
        let head = Mlp::ending(&[32, 24, 24, 8], HeadEnd::Scaled, &mut rng, &device);
        (encoder, with_head.then(|| head.first(1)))
    }

    fn fit(
        config: &FineTuneConfig,
        with_head: bool,
        splits: &Splits,
    ) -> Result<Vec<u32>, ProbeError> {
        let labelled =
            Labelled { images: &splits.train.set, prepared: &splits.labelled_prepared, size: 16 };
        let tuned = FineTuned::fit(config, start(with_head), &labelled, 10, 3, &Device::flex())?;
        tuned.predict(&splits.labelled_prepared)
    }

    /// Sixty drawn images, random initial weights: reproducible, and five standard deviations better than chance, where
    /// 6 ± 2.3 of 60 are right. How much better depends on the order of additions.
    #[test]
    fn it_learns_its_labels_with_and_without_a_layer_of_the_head() {
        let splits = splits();
        let truth: Vec<u32> = splits.train.labels.iter().map(|(_, label)| *label).collect();
        let optimizer = FineTuneOptimizer::Sgd;
        let config = FineTuneConfig { epochs: 30, batch: 20, lr: Some(0.05), optimizer };
        for with_head in [true, false] {
            let found = fit(&config, with_head, &splits).unwrap();
            let right = found.iter().zip(&truth).filter(|(a, b)| a == b).count();
            assert!(right >= 18, "{right} of 60, with a layer of the head: {with_head}");
            assert_eq!(fit(&config, with_head, &splits).unwrap(), found);
        }
    }

    /// One step with a learning rate of 0.5 and a gradient of ones. The classifier's weights move by 0.5 each; those
    /// of the encoder and of the head's layer move by 0.5 · 0.001 · |w| / √n, with n values.
    #[test]
    fn lars_scales_the_encoder_and_the_head_but_not_the_classifier() {
        let device = Device::flex().autodiff();
        let (encoder, kept) = start(true);
        let linear = classifier(24, 10, 3, &device);
        let network = Network { encoder, kept, linear };
        let mut before = Values::default();
        for_each_parameter(&network, &mut before);
        let mut ones = Ones(GradientsParams::new());
        for_each_parameter(&network, &mut ones);
        let network = FineTuneConfig::default().optimizer().step(0.5, network, ones.0);
        let mut after = Values::default();
        for_each_parameter(&network, &mut after);
        let mut scaled = 0;
        for ((path, rank, old), (_, _, new)) in before.0.iter().zip(&after.0) {
            let norm = old.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let share = match CLASSIFIER.contains(&path.as_str()) || *rank == 1 || norm == 0.0 {
                true => 1.0,
                false => 0.001 * norm / (old.len() as f64).sqrt(),
            };
            scaled += usize::from(share < 1.0);
            for (old, new) in old.iter().zip(new) {
                let moved = f64::from(old - new);
                assert!(
                    (moved - 0.5 * share).abs() < 1e-6 + 1e-3 * share,
                    "{path}: {moved} {share}"
                );
            }
        }
        // The twenty convolutions and the layer of the head.
        assert_eq!(scaled, 21);
    }

    /// Path, rank and values of every trainable parameter.
    #[derive(Default)]
    struct Values(Vec<(String, usize, Vec<f32>)>);

    impl OnParameter for Values {
        fn parameter<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                let values = param.val().into_data().iter::<f32>().collect();
                self.0.push((path.to_owned(), D, values));
            }
        }
    }

    /// A gradient of ones for every trainable parameter.
    struct Ones(GradientsParams);

    impl OnParameter for Ones {
        fn parameter<const D: usize>(&mut self, _: &str, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0.register(param.id, param.val().inner().ones_like());
            }
        }
    }

    #[test]
    fn the_rate_is_the_references_and_falls_to_zero() {
        let lars = FineTuneConfig::default();
        assert!((lars.rate(0, 10, 1024) - 0.16).abs() < 1e-12);
        assert!((lars.rate(5, 10, 1024) - 0.08).abs() < 1e-12);
        let sgd = FineTuneConfig { optimizer: FineTuneOptimizer::Sgd, ..lars.clone() };
        assert!((sgd.rate(0, 10, 4096) - 0.8).abs() < 1e-12);
        assert_eq!(FineTuneConfig { lr: Some(0.3), ..lars }.rate(0, 10, 7), 0.3);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let splits = splits();
        let config = FineTuneConfig { epochs: 1, batch: 7, ..FineTuneConfig::default() };
        let said = |config: &FineTuneConfig| fit(config, true, &splits).unwrap_err().to_string();
        assert!(
            said(&FineTuneConfig { epochs: 0, ..config.clone() })
                .starts_with("fine_tune.epochs = 0")
        );
        assert!(
            said(&FineTuneConfig { batch: 1, ..config.clone() }).starts_with("fine_tune.batch = 1")
        );
        let lr = Some(f64::NAN);
        assert!(said(&FineTuneConfig { lr, ..config.clone() }).starts_with("fine_tune.lr = NaN"));
        let optimizer = FineTuneOptimizer::Sgd;
        let wild = FineTuneConfig { epochs: 20, lr: Some(1e30), optimizer, ..config };
        assert!(matches!(fit(&wild, true, &splits), Err(ProbeError::Diverged { .. })));
    }
}
