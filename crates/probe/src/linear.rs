//! The linear probe of the `unified` protocol: features are divided by their L2 norm and
//! standardised with the labelled subset's own statistics, then a linear classifier is trained
//! (docs/protocol.md, 3.2 on features extracted once, without augmentation).

use std::path::Path;

use burn::module::{Module, Param, ParamId};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::store::{ModuleStore, SafetensorsStore};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ssl_backdoor_model::{init, l2_normalize};
use ssl_backdoor_rng::{keyed, ranked};

use crate::purpose::{PROBE_INIT, PROBE_ORDER};
use crate::{Features, ProbeConfig, ProbeError};

/// Epochs after which the learning rate is divided by 10.
const DROPS: [usize; 2] = [15, 30];
const MOMENTUM: f64 = 0.9;
const WEIGHT_DECAY: f32 = 1e-4;
/// Added to the variance before the square root, as in the reference.
const EPSILON: f32 = 1e-5;

/// A trained linear probe.
#[derive(Module, Debug)]
pub struct LinearProbe {
    /// Mean of the L2-normalised labelled features, `[dim]`.
    mean: Param<Tensor<1>>,
    /// One over their standard deviation, `[dim]`.
    inverse_std: Param<Tensor<1>>,
    linear: Linear,
}

impl LinearProbe {
    /// Trains on the labelled features. Initial weights and batch order are keyed by `seed`.
    ///
    /// # Errors
    /// - [`ProbeError::Range`] for a value of `config` that is out of range
    /// - [`ProbeError::Empty`], [`ProbeError::Count`], [`ProbeError::NotFinite`] or [`ProbeError::Label`] for features
    ///   that are absent, of the wrong length, not finite, or of a class that is not below `classes`
    pub fn fit(
        config: &ProbeConfig,
        labelled: &Features,
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ProbeError> {
        config.check()?;
        labelled.check_labelled(classes)?;
        let device = device.clone().without_autodiff().autodiff();
        let [rows, dim] = [labelled.labels.len(), labelled.dim];
        let mut rng = keyed(seed, PROBE_INIT, 0, 0, 0);
        let mut linear = LinearConfig::new(dim, classes).init(&device);
        linear.weight = init::linear_uniform([dim, classes], dim, &mut rng, &device);
        linear.bias = Some(init::linear_uniform([classes], dim, &mut rng, &device));
        let all: Vec<u64> = (0..rows as u64).collect();
        let order = |epoch| ranked(&all, seed, PROBE_ORDER, epoch);
        Ok(Self::fit_from(config, labelled, linear, order, |_, _| ()))
    }

    /// Like [`fit`](Self::fit), from given weights (on an autodiff device) and with a given image order per epoch.
    /// `watch` is called with each epoch's mean loss.
    pub(crate) fn fit_from(
        config: &ProbeConfig,
        labelled: &Features,
        mut linear: Linear,
        order: impl Fn(u32) -> Vec<u64>,
        mut watch: impl FnMut(u32, f32),
    ) -> Self {
        let device = linear.weight.val().device();
        let plain = device.clone().without_autodiff();
        let [rows, dim] = [labelled.labels.len(), labelled.dim];
        let x = l2_normalize(init::matrix(labelled.values.clone(), dim, &plain));
        let mean = x.clone().mean_dim(0);
        let centred = x - mean.clone();
        let variance =
            centred.clone().powi_scalar(2).sum_dim(0).div_scalar((rows.max(2) - 1) as f32);
        let inverse_std = variance.add_scalar(EPSILON).sqrt().recip();
        let x = Tensor::from_inner(centred * inverse_std.clone());
        let labels: Vec<i64> = labelled.labels.iter().map(|&l| l.into()).collect();
        let y = Tensor::<1, Int>::from_data(TensorData::new(labels, [rows]), &device);

        let momentum = MomentumConfig::new().with_momentum(MOMENTUM).with_dampening(0.0);
        let mut optimizer = SgdConfig::new()
            .with_momentum(Some(momentum))
            .with_weight_decay(Some(WeightDecayConfig::new(WEIGHT_DECAY)))
            .init();
        let loss = CrossEntropyLossConfig::new().init(&device);
        let mut lr = config.lr;
        for epoch in 0..config.epochs {
            if DROPS.contains(&epoch) {
                lr /= 10.0;
            }
            let (order, mut sum) = (order(epoch as u32), 0.0);
            for part in order.chunks(config.batch) {
                let indices: Vec<i64> = part.iter().map(|&i| i as i64).collect();
                let indices = Tensor::from_data(TensorData::new(indices, [part.len()]), &device);
                let logits = linear.forward(x.clone().select(0, indices.clone()));
                let loss = loss.forward(logits, y.clone().select(0, indices));
                let grads = GradientsParams::from_grads(loss.backward(), &linear);
                linear = optimizer.step(lr, linear, grads);
                sum += loss.into_scalar::<f32>() * part.len() as f32;
            }
            watch(epoch as u32, sum / rows as f32);
        }
        let fixed = |t: Tensor<2>| Param::initialized(ParamId::new(), t.reshape([dim]));
        Self { mean: fixed(mean), inverse_std: fixed(inverse_std), linear: linear.valid() }
    }

    /// The predicted class of each image; ties go to the lowest class.
    ///
    /// # Errors
    /// As [`fit`](Self::fit), for features that are absent, of another length than in training, or not finite.
    pub fn predict(&self, features: &Features) -> Result<Vec<u32>, ProbeError> {
        features.check("images to classify", self.mean.val().dims()[0])?;
        let device = self.mean.val().device();
        let x = l2_normalize(init::matrix(features.values.clone(), features.dim, &device));
        let x = (x - self.mean.val().unsqueeze()) * self.inverse_std.val().unsqueeze();
        let logits = self.linear.forward(x).argmax(1);
        Ok(logits.into_data().iter::<i64>().map(|class| class as u32).collect())
    }

    /// Writes the probe to `path` as safetensors, whole or not at all.
    ///
    /// # Errors
    /// [`ProbeError::File`].
    pub fn save(&self, path: &Path) -> Result<(), ProbeError> {
        SafetensorsStore::from_file(path)
            .clear_metadata()
            .overwrite(true)
            .collect_from(self)
            .map_err(|e| ProbeError::File { path: path.into(), reason: e.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use ssl_backdoor_data::purpose::DRAW;

    fn clouds(per_class: usize, noise: f32, seed: u64) -> Features {
        let mut rng = keyed(seed, DRAW, 0, 0, 0);
        let mut features = Features { values: Vec::new(), dim: 6, labels: Vec::new() };
        for i in 0..3 * per_class {
            let class = i % 3;
            for axis in 0..6 {
                let center = if axis == class { 3.0 } else { 0.5 };
                features.values.push(center + noise * rng.random_range(-1.0f32..1.0));
            }
            features.labels.push(class as u32);
        }
        features
    }

    fn config() -> ProbeConfig {
        ProbeConfig { batch: 16, ..ProbeConfig::default() }
    }

    #[test]
    fn separable_classes_are_separated_whatever_their_scale() {
        let device = Device::flex();
        let probe = LinearProbe::fit(&config(), &clouds(20, 0.7, 1), 3, 1, &device).unwrap();
        let mut test = clouds(50, 0.7, 2);
        assert_eq!(probe.predict(&test).unwrap(), test.labels);
        // L2 normalisation: a feature and its multiple are the same.
        test.values.iter_mut().for_each(|v| *v *= 7.0);
        assert_eq!(probe.predict(&test).unwrap(), test.labels);
    }

    #[test]
    fn the_same_seed_gives_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = |seed, name| {
            let path = folder.path().join(name);
            let probe = LinearProbe::fit(&config(), &clouds(20, 1.0, 1), 3, seed, &Device::flex());
            probe.unwrap().save(&path).unwrap();
            std::fs::read(path).unwrap()
        };
        assert_eq!(bytes(1, "a"), bytes(1, "b"));
        assert_ne!(bytes(1, "a"), bytes(2, "c"));
    }

    #[test]
    fn review_2_06_a_callers_mistakes_are_errors() {
        let device = Device::flex();
        let good = clouds(4, 1.0, 1);
        let fit = |config: &ProbeConfig, labelled: &Features, classes| {
            LinearProbe::fit(config, labelled, classes, 1, &device)
        };
        let error = |labelled: &Features, classes| {
            fit(&config(), labelled, classes).unwrap_err().to_string()
        };
        assert!(error(&good, 2).contains("image 2 has label 2: classes are 0 to 1"));
        assert!(error(&good.rows(&[]).unwrap(), 3).contains("no labelled images"));
        let mut broken = good.clone();
        broken.values[7] = f32::INFINITY;
        assert!(error(&broken, 3).contains("feature 1 of image 1 is inf"));
        let zero = ProbeConfig { batch: 0, ..config() };
        let message = fit(&zero, &good, 3).unwrap_err().to_string();
        assert!(message.contains("batch = 0"), "{message}");
        // One image is enough for training.
        let short = ProbeConfig { epochs: 1, ..config() };
        let probe = fit(&short, &good.rows(&[1]).unwrap(), 3).unwrap();
        let other = Features { values: vec![0.0; 4], dim: 4, labels: vec![0] };
        let message = probe.predict(&other).unwrap_err().to_string();
        assert!(message.contains("4 values in a feature, expected 6"), "{message}");
        assert!(probe.predict(&broken).is_err());
        assert!(probe.predict(&good.rows(&[]).unwrap()).is_err());
        assert_eq!(probe.predict(&good).unwrap().len(), 12);
    }
}
