//! SimSiam (Chen & He, 2021) outside the workspace: the method, its training on drawn shapes, and a linear probe.

use std::error::Error;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ssl_backdoor_data::augment::ChainViews;
use ssl_backdoor_data::chance::{self, Purpose};
use ssl_backdoor_data::{DataConfig, Splits};
use ssl_backdoor_model::{Encoder, EncoderConfig, Mlp, Stem, l2_normalize};
use ssl_backdoor_probe::{LinearProbe, ProbeConfig, Scores, extract};
use ssl_backdoor_ssl::{
    Batch, Method, PretrainError, Progress, Step, TrainConfig, Training, train,
};

const ENCODER: EncoderConfig = EncoderConfig::Resnet18 { width: 4, stem: Stem::Small };

#[derive(Module, Debug)]
struct SimSiam {
    encoder: Encoder,
    projector: Mlp,
    predictor: Mlp,
}

impl SimSiam {
    fn new(dim: usize, seed: u64, device: &Device) -> Self {
        let mut rng = chance::rng(seed, Purpose::Init, 0, 0, 0);
        let encoder = ENCODER.init(&mut rng, device);
        let projector = Mlp::normed(&[ENCODER.dim(), dim, dim], &mut rng, device);
        let predictor = Mlp::normed(&[dim, dim / 4, dim], &mut rng, device);
        Self { encoder, projector, predictor }
    }
}

impl Method for SimSiam {
    /// The prediction from each view's projection is drawn to the other's, which gets no gradient.
    fn forward(&mut self, batch: Batch, _: &Progress) -> Result<Step, PretrainError> {
        let project = |view| self.projector.forward(self.encoder.forward(view));
        let [first, second] = batch.views()?.map(project);
        let apart = |from: &Tensor<2>, to: &Tensor<2>| {
            let predicted = l2_normalize(self.predictor.forward(from.clone()));
            (predicted * l2_normalize(to.clone()).detach()).sum_dim(1).mean().neg()
        };
        let loss = (apart(&first, &second) + apart(&second, &first)).div_scalar(2.0);
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
    let labelled = extract(encoder, &splits.plain, device)?;
    let eval = extract(encoder, &splits.prepared(&splits.eval), device)?;
    let probe = LinearProbe::fit(&config, &labelled, classes, 1, device)?;
    Ok(Scores::of(&eval.labels, &probe.predict(&eval)?, None)?.acc)
}

fn main() -> Result<(), Box<dyn Error>> {
    let data = r#"{ "kind": "shapes", "size": 16, "per_class": 48, "eval_per_class": 20 }"#;
    let splits = serde_json::from_str::<DataConfig>(data)?.load(&|_, _, _| {})?;
    let device = Device::flex();
    let training = Training::new(splits.pretrain_set().clone(), 1, &device);
    let config = TrainConfig::sgd(20, 32, 0.05);
    let views = Arc::new(ChainViews::moco(16, config.crop, false));
    let method = SimSiam::new(64, 1, &training.autodiff_device());
    let untrained = probe(&method.encoder().valid(), &splits, &device)?;
    let encoder = train(&training, &config, views, method, &mut ())?;
    let trained = probe(&encoder, &splits, &device)?;
    println!("linear probe: {untrained:.1} % untrained, {trained:.1} % after SimSiam");
    if trained > untrained { Ok(()) } else { Err("SimSiam taught nothing".into()) }
}
