//! Barlow Twins (Zbontar et al., 2021) outside the workspace: the method, its training on drawn shapes, a linear probe.

use std::{error::Error, sync::Arc};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_data::{DataConfig, Splits};
use ssl_backdoor_model::{Encoder, EncoderConfig, Mlp, Stem, purpose::INIT};
use ssl_backdoor_probe::{LinearProbe, ProbeConfig, Scores, extract};
use ssl_backdoor_rng::keyed;
use ssl_backdoor_ssl::{
    Batch, Method, PretrainError, Progress, Step, TrainConfig, Training, train,
};

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };
/// Weight of the correlation of two features, relative to that of a feature with itself.
const REDUNDANCY: f64 = 0.02;

#[derive(Module, Debug)]
struct BarlowTwins {
    encoder: Encoder,
    projector: Mlp,
}

impl BarlowTwins {
    fn new(dim: usize, seed: u64, device: &Device) -> Self {
        let mut rng = keyed(seed, INIT, 0, 0, 0);
        let encoder = ENCODER.init(&mut rng, device);
        Self { encoder, projector: Mlp::normed(&[ENCODER.dim(), dim, dim], &mut rng, device) }
    }
}

impl Method for BarlowTwins {
    /// Pulls the correlation of the two views' features over the batch towards the identity.
    fn forward(&mut self, batch: Batch, _: &Progress) -> Result<Step, PretrainError> {
        let [first, second] = batch.views()?.map(|view| {
            let projected = self.projector.forward(self.encoder.forward(view));
            let (variance, mean) = projected.clone().var_mean_bias(0);
            (projected - mean) / variance.add_scalar(1e-5).sqrt()
        });
        let [rows, dim] = first.dims();
        let correlation = first.clone().transpose().matmul(second).div_scalar(rows as f64);
        let identity = Tensor::eye(dim, &first.device());
        let weight = identity.clone().mul_scalar(1.0 - REDUNDANCY).add_scalar(REDUNDANCY);
        let loss = ((correlation - identity).powi_scalar(2) * weight).sum().div_scalar(dim as f64);
        Ok(Step::new(loss, first))
    }

    fn encoder(&self) -> Encoder {
        self.encoder.clone()
    }

    fn start_from(self, trained: Encoder, _copy: Encoder) -> Self {
        Self { encoder: trained, ..self }
    }
}

/// Accuracy in percent of a linear probe that learns from all training images.
fn probe(encoder: &Encoder, splits: &Splits, device: &Device) -> Result<f64, Box<dyn Error>> {
    let (config, classes) = (ProbeConfig::default(), splits.classes.len());
    let labelled = extract(encoder, &splits.labelled_prepared, device)?;
    let eval = extract(encoder, &splits.prepared(&splits.eval), device)?;
    let probe = LinearProbe::fit(&config, &labelled, classes, 1, device)?;
    Ok(Scores::of(&eval.labels, &probe.predict(&eval)?, None)?.acc)
}

fn main() -> Result<(), Box<dyn Error>> {
    let data = r#"{ "kind": "shapes", "size": 16, "per_class": 48, "eval_per_class": 50 }"#;
    let splits = serde_json::from_str::<DataConfig>(data)?.load(&|_, _, _| {})?;
    let training = Training::new(splits.pretrain_set().clone(), 1, &Device::flex());
    let config = TrainConfig::sgd(20, 32, 0.05);
    let views = Arc::new(ChainViews::moco(16, config.crop, false));
    let method = BarlowTwins::new(64, 1, &training.autodiff_device());
    let untrained = probe(&method.encoder().valid(), &splits, &training.device)?;
    let encoder = train(&training, &config, views, method, &mut ())?;
    let trained = probe(&encoder, &splits, &training.device)?;
    println!("linear probe: {untrained:.1} % untrained, {trained:.1} % after Barlow Twins");
    if trained > untrained + 5.0 { Ok(()) } else { Err("Barlow Twins taught nothing".into()) }
}
